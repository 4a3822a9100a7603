package http1

// Parse reads the head of the response to a request with this method from the beginning of buf. It returns what
// Request.Parse returns, and errors of status 502.
func (r *Response) Parse(buf, method []byte) (n int, err error) {
	*r = Response{Fields: r.Fields[:0], Length: -1}
	if len(buf) > MaxHead {
		buf = buf[:MaxHead]
	}
	s := fields{list: r.Fields, response: true}
	pos, e := r.line(buf)
	if e == nil && pos > 0 {
		n, e = s.read(buf, pos)
		r.Fields = s.list
	}
	if e == nil && n == 0 && len(buf) == MaxHead {
		e = errHeadTooLong
	}
	if e == nil && n > 0 {
		e = r.finish(&s, string(method) == "HEAD")
	}
	if e != nil {
		return 0, e.upstream()
	}
	return n, nil
}

// line reads the status line and returns the index behind it, or 0 when it is not there yet.
func (r *Response) line(buf []byte) (int, *Error) {
	const start = "HTTP/1.x 999"
	for i := range len(start) {
		if i == len(buf) {
			return 0, nil
		}
		c := buf[i]
		switch start[i] {
		case 'x':
			if c != '0' && c != '1' {
				return 0, errStatusLine
			}
			r.Minor = int(c - '0')
		case '9':
			if c < '0' || c > '9' {
				return 0, errStatusLine
			}
			r.Status = 10*r.Status + int(c-'0')
		default:
			if c != start[i] {
				return 0, errStatusLine
			}
		}
	}
	if r.Status < 100 {
		return 0, errStatusLine
	}
	end := control(buf, len(start))
	// Many servers leave out the space when there is no reason.
	if end > len(start) {
		if buf[len(start)] != ' ' {
			return 0, errStatusLine
		}
		r.Reason = buf[len(start)+1 : end]
	}
	return lineEnd(buf, end)
}

// finish checks what only the whole head tells.
func (r *Response) finish(s *fields, head bool) *Error {
	if err := s.finish(r.Minor); err != nil {
		return err
	}
	r.KeepAlive = s.keepAlive(r.Minor)
	bodiless := r.Status < 200 || r.Status == 204
	switch {
	case bodiless || head || r.Status == 304:
		r.Framing = NoBody
		if !bodiless && s.lengths > 0 {
			r.Length = s.length
		}
		// Some servers send the body that they announce here, where none may be: it would be the next response.
		if bodiless && s.length > 0 || !head && s.codings > 0 {
			r.KeepAlive = false
		}
		if r.Status == 101 && s.upgrades == 1 {
			r.Upgrade = s.upgrade
		}
	case s.codings > 0:
		r.Framing = Chunked
	case s.lengths > 0:
		r.Framing, r.Length = Length, s.length
	default:
		r.Framing = UntilClose
		r.KeepAlive = false
	}
	return nil
}
