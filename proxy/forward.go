package proxy

import (
	"bytes"
	"net/netip"
	"strconv"

	"github.com/inpod/inpod/proxy/http1"
)

// origin is what is known of a connection's other end.
type origin struct {
	addr  netip.Addr
	proto string // http or https
	inner bool   // inpod itself, which has set the forwarded fields
	link  *link  // of TLS
}

// outer tells a client's own connection from a socket pair's end: behind that is one that the front counts.
func (o origin) outer() bool { return !o.inner && o.link == nil }

var continueLine = []byte("HTTP/1.1 100 Continue\r\n\r\n")

// appendRequest appends the head as the upstream gets it (RFC 9110 section 7.6): the fields as they came and in their
// order, without those that concern the client's connection, with the framing and the forwarded fields of our own.
func (c *client) appendRequest(dst []byte, req *http1.Request) []byte {
	r := c.x.route
	dst = append(dst, req.Method...)
	dst = append(dst, ' ')
	if r.StripPrefix && r.prefix != "" { // there is nothing to strip of OPTIONS *
		dst = appendStripped(dst, req.Path, r.prefix)
	} else {
		dst = append(dst, req.Path...)
	}
	dst = append(dst, req.Query...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	if len(req.Host) > 0 {
		dst = append(dst, req.Host...)
	} else {
		dst = append(dst, r.Upstream...)
	}
	dst = append(dst, "\r\n"...)
	seen := fieldsSeen{}
	for i := range req.Fields {
		f := &req.Fields[i]
		if f.Hop || !c.inner && seen.collect(i, f) || isHost(f.Name) || r.StripPrefix && seen.isPrefix(i, f) {
			continue
		}
		dst = http1.AppendField(dst, f.Name, f.Value)
	}
	switch req.Framing {
	case http1.Length:
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, req.Length, 10)
		dst = append(dst, "\r\n"...)
	case http1.Chunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	if !c.inner {
		dst = c.appendForwardedFields(dst, req, &seen)
	}
	if r.StripPrefix && r.prefix != "" {
		// What an ingress before us has stripped comes before what is stripped here.
		dst = append(dst, "X-Forwarded-Prefix: "...)
		if seen.prefix != 0 {
			dst = append(dst, bytes.TrimSuffix(req.Fields[seen.prefix-1].Value, []byte("/"))...)
		}
		dst = append(dst, r.prefix...)
		dst = append(dst, "\r\n"...)
	}
	if c.x.upgrade {
		dst = append(dst, "Connection: Upgrade\r\n"...)
		dst = http1.AppendField(dst, "Upgrade", req.Upgrade)
	}
	return append(dst, "\r\n"...)
}

// appendStripped appends path without prefix; what is left begins with a slash.
func appendStripped(dst, path []byte, prefix string) []byte {
	rest := path[min(len(prefix), len(path)):]
	if len(rest) == 0 || rest[0] != '/' {
		dst = append(dst, '/')
	}
	return append(dst, rest...)
}

func isHost(name []byte) bool { return len(name) == 4 && equalFold(name, "host") }

func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// fieldsSeen says where in a request the fields stand that inpod adds to: 1 + their index, 0 for none. Of those that are
// lists there may be more, which follow each other.
type fieldsSeen struct {
	xff, forwarded [4]int32
	proto, host    int32
	prefix         int32
}

// collect tells whether a field is one of those, and remembers it.
func (s *fieldsSeen) collect(i int, f *http1.Field) bool {
	switch n := len(f.Name); {
	case n < 9 || n > 18 || f.Name[0]|0x20 != 'x' && f.Name[0]|0x20 != 'f':
		return false
	case n == len("forwarded") && equalFold(f.Name, "forwarded"):
		return noteIn(&s.forwarded, i)
	case n == len("x-forwarded-for") && equalFold(f.Name, "x-forwarded-for"):
		return noteIn(&s.xff, i)
	case n == len("x-forwarded-host") && equalFold(f.Name, "x-forwarded-host"):
		s.host = 1
	case n == len("x-forwarded-proto") && equalFold(f.Name, "x-forwarded-proto"):
		s.proto = 1
	}
	return false
}

// isPrefix tells whether a field is X-Forwarded-Prefix, and remembers the first.
func (s *fieldsSeen) isPrefix(i int, f *http1.Field) bool {
	if !equalFold(f.Name, "x-forwarded-prefix") {
		return false
	}
	if s.prefix == 0 {
		s.prefix = int32(i) + 1
	}
	return true
}

// noteIn remembers a field in the next free place. More than there are places are passed on as they are.
func noteIn(places *[4]int32, i int) bool {
	for j := range places {
		if places[j] == 0 {
			places[j] = int32(i) + 1
			return true
		}
	}
	return false
}

// appendForwardedFields adds this hop to X-Forwarded-For and Forwarded (RFC 7239). What an ingress before us says of
// the protocol and the host is left as it is: it knows better how the client came.
func (c *client) appendForwardedFields(dst []byte, req *http1.Request, seen *fieldsSeen) []byte {
	dst = append(dst, "X-Forwarded-For: "...)
	dst = appendList(dst, req, &seen.xff)
	dst = c.appendAddr(dst)
	dst = append(dst, "\r\n"...)
	if seen.proto == 0 {
		dst = http1.AppendField(dst, "X-Forwarded-Proto", c.proto)
	}
	if seen.host == 0 && len(req.Host) > 0 {
		dst = http1.AppendField(dst, "X-Forwarded-Host", req.Host)
	}
	dst = append(dst, "Forwarded: "...)
	dst = appendList(dst, req, &seen.forwarded)
	dst = append(dst, c.forwarded...)
	if len(req.Host) > 0 {
		dst = append(dst, `;host="`...)
		dst = append(dst, req.Host...) // no quote and no backslash: http1 lets none pass
		dst = append(dst, '"')
	}
	return append(dst, "\r\n"...)
}

// lastAddr is the last address of an X-Forwarded-For, which inpod's HTTP/2 side has put there.
func lastAddr(list []byte) netip.Addr {
	last := list[bytes.LastIndexByte(list, ',')+1:]
	addr, _ := netip.ParseAddr(string(bytes.TrimSpace(last))) // invalid is "unknown"
	return addr
}

func (c *client) appendAddr(dst []byte) []byte {
	if !c.remote.IsValid() {
		return append(dst, "unknown"...)
	}
	return c.remote.AppendTo(dst)
}

// appendList appends the values of the fields in places, each with a comma behind it.
func appendList(dst []byte, req *http1.Request, places *[4]int32) []byte {
	for _, i := range places {
		if i == 0 {
			break
		}
		if v := req.Fields[i-1].Value; len(v) > 0 {
			dst = append(dst, v...)
			dst = append(dst, ", "...)
		}
	}
	return dst
}

// appendForwarded is the part of Forwarded that is the same for every request of a connection.
func appendForwarded(dst []byte, from origin) []byte {
	switch {
	case !from.addr.IsValid():
		dst = append(dst, "for=unknown"...)
	case from.addr.Is6():
		dst = append(dst, `for="[`...)
		dst = from.addr.AppendTo(dst)
		dst = append(dst, `]"`...)
	default:
		dst = append(dst, "for="...)
		dst = from.addr.AppendTo(dst)
	}
	dst = append(dst, ";proto="...)
	return append(dst, from.proto...)
}

func appendStatusLine(dst []byte, status int, reason []byte) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, reason...)
	return append(dst, "\r\n"...)
}

func appendFields(dst []byte, fields []http1.Field) []byte {
	for i := range fields {
		if f := &fields[i]; !f.Hop {
			dst = http1.AppendField(dst, f.Name, f.Value)
		}
	}
	return dst
}

// appendResponse appends the response's head as the client gets it.
func (c *client) appendResponse(dst []byte, resp *http1.Response) []byte {
	x := c.x
	dst = appendStatusLine(dst, resp.Status, resp.Reason)
	dst = appendFields(dst, resp.Fields)
	switch {
	case x.rechunk:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case resp.Framing == http1.Length, resp.Framing == http1.NoBody && resp.Length >= 0:
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, resp.Length, 10)
		dst = append(dst, "\r\n"...)
	}
	if x.orca != orcaNone {
		dst = x.appendORCA(dst)
	}
	return append(c.appendConnection(dst), "\r\n"...)
}

// appendConnection says whether the connection goes on, where the version does not say it (RFC 9112 section 9.3).
func (c *client) appendConnection(dst []byte) []byte {
	switch x := c.x; {
	case !x.keep || x.cut:
		return append(dst, "Connection: close\r\n"...)
	case x.http10:
		return append(dst, "Connection: keep-alive\r\n"...)
	}
	return dst
}
