package http1

import "bytes"

// protected tells whether a Connection option must not take the field of this name away: a client could strip
// what says how the message is to be read, who sent it, or what a proxy before us has added ("hop-by-hop abuse").
func protected(name []byte) bool {
	switch fold(name[0]) {
	case 'a':
		return is(name, "authorization") || hasPrefix(name, "accept")
	case 'c':
		return is(name, "cookie") || is(name, "cache-control") || hasPrefix(name, "content-")
	case 'd':
		return is(name, "date")
	case 'f':
		return is(name, "forwarded") || is(name, "from")
	case 'h':
		return is(name, "host")
	case 'i':
		return hasPrefix(name, "if-")
	case 'l':
		return is(name, "location")
	case 'o':
		return is(name, "origin")
	case 'p':
		return is(name, "pragma") || is(name, "prefer")
	case 'r':
		return is(name, "range") || is(name, "referer")
	case 's':
		return is(name, "set-cookie") || hasPrefix(name, "sec-")
	case 't':
		return is(name, "trailer") || is(name, "traceparent") || is(name, "tracestate") || is(name, "true-client-ip")
	case 'u':
		return is(name, "user-agent")
	case 'v':
		return is(name, "via") || is(name, "vary")
	case 'x':
		return forwards(name)
	}
	return false
}

// forwards tells whether a name in X-… is one by which proxies tell each other about the client.
func forwards(name []byte) bool {
	return hasPrefix(name, "x-forwarded") || hasPrefix(name, "x-inpod-") || hasPrefix(name, "x-original-") ||
		hasPrefix(name, "x-real-ip") || is(name, "x-client-ip") || is(name, "x-cluster-client-ip") || is(name, "x-request-id")
}

// confusable tells whether a name with underscores is that of a meaningful field with dashes to a CGI-like server,
// which turns both into underscores (RFC 3875 section 4.1.18).
func confusable(name []byte) bool {
	var dashed [32]byte // longer than any name below; of a longer one the beginning decides
	n := copy(dashed[:], name)
	for i, c := range dashed[:n] {
		if c == '_' {
			dashed[i] = '-'
		}
	}
	d := dashed[:n]
	return hasPrefix(d, "content-") || hasPrefix(d, "proxy-") || hasPrefix(d, "sec-") || hasPrefix(d, "http2-") ||
		is(d, "transfer-encoding") || is(d, "keep-alive") || is(d, "true-client-ip") || forwards(d)
}

// notInTrailer tells whether a field is dropped from a trailer: one that frames or routes the message, says who sends
// it, modifies the request or tells how to read the content must be known before the body (RFC 9110 section 6.5.1).
func notInTrailer(name []byte) bool {
	if bytes.IndexByte(name, '_') >= 0 {
		return confusable(name)
	}
	switch fold(name[0]) {
	case 'a':
		return is(name, "age") || is(name, "authorization") || hasPrefix(name, "accept")
	case 'c':
		return is(name, "connection") || is(name, "cookie") || is(name, "cookie2") || is(name, "cache-control") ||
			hasPrefix(name, "content-")
	case 'e':
		return is(name, "expect") || is(name, "expires")
	case 'h':
		return is(name, "host") || is(name, "http2-settings")
	case 'k':
		return is(name, "keep-alive")
	case 'm':
		return is(name, "max-forwards")
	case 'p':
		return hasPrefix(name, "proxy-")
	case 'r':
		return is(name, "retry-after") || is(name, "range")
	case 's':
		return is(name, "set-cookie2") || is(name, "strict-transport-security") || protected(name)
	case 't':
		return is(name, "te") || is(name, "transfer-encoding") || protected(name)
	case 'u':
		return is(name, "upgrade") || protected(name)
	case 'w':
		return is(name, "www-authenticate") || is(name, "warning")
	}
	return protected(name)
}
