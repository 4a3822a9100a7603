package sshd

import (
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// permitted tells whether a list of ssh.permit_local_forward or ssh.permit_remote_forward names the address. A name in
// the list means that name, and not the addresses that it has: the client's name for it is what counts.
func permitted(list []string, host string, port uint32) bool {
	for _, p := range list {
		if !strings.HasPrefix(p, "/") && matchPermit(p, host, port) {
			return true
		}
	}
	return false
}

func matchPermit(pattern, host string, port uint32) bool {
	i := strings.LastIndexByte(pattern, ':')
	if i < 0 {
		return false
	}
	return matchPort(pattern[i+1:], port) && matchHost(strings.Trim(pattern[:i], "[]"), host)
}

func matchPort(pattern string, port uint32) bool {
	if pattern == "*" {
		return true
	}
	low, high, ranged := strings.Cut(pattern, "-")
	from, err := strconv.ParseUint(low, 10, 16)
	if err != nil {
		return false
	}
	to := from
	if ranged {
		if to, err = strconv.ParseUint(high, 10, 16); err != nil {
			return false
		}
	}
	return uint64(port) >= from && uint64(port) <= to
}

func matchHost(pattern, host string) bool {
	if pattern == "*" {
		return true
	}
	if a, err := netip.ParseAddr(host); err == nil {
		a = a.Unmap().WithZone("")
		if p, err := netip.ParsePrefix(pattern); err == nil {
			return p.Masked().Contains(a)
		}
		if b, err := netip.ParseAddr(pattern); err == nil {
			return a == b.Unmap()
		}
		return strings.EqualFold(pattern, "localhost") && a.IsLoopback()
	}
	// Only a whole first label may be a *: model.* would be anybody's.
	pattern, host = strings.ToLower(pattern), strings.TrimSuffix(strings.ToLower(host), ".")
	if rest, ok := strings.CutPrefix(pattern, "*."); ok {
		return strings.HasSuffix(host, "."+rest)
	}
	return pattern == host
}

// permittedPath is permitted for unix sockets.
func permittedPath(list []string, name string) bool {
	if !strings.HasPrefix(name, "/") || path.Clean(name) != name {
		return false
	}
	for _, p := range list {
		if ok, err := path.Match(p, name); ok && err == nil && strings.HasPrefix(p, "/") {
			return true
		}
	}
	return false
}
