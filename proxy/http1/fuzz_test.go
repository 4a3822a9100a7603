package http1

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// wantSameInParts checks that each beginning of in gives "more" or what the whole gives.
func wantSameInParts(t *testing.T, in []byte, parse func([]byte) (int, error)) {
	t.Helper()
	n, err := parse(in)
	if err != nil {
		var e *Error
		if !errors.As(err, &e) || n != 0 || e.Status < 400 || e.Reason == "" || e.Text == "" {
			t.Fatalf("got %d, %#v, want 0 and a complete *Error", n, err)
		}
	}
	step := 1 + len(in)/2000
	for i := 0; i < len(in); i += step {
		switch pn, perr := parse(in[:i:i]); {
		case perr != nil && (err == nil || perr.Error() != err.Error()):
			t.Fatalf("the first %d of %d bytes give %v, the whole %d, %v", i, len(in), perr, n, err)
		case pn != 0 && (pn != n || pn > i):
			t.Fatalf("the first %d of %d bytes give a head of %d, the whole one of %d", i, len(in), pn, n)
		case n > 0 && i >= n && pn == 0:
			t.Fatalf("the first %d of %d bytes give no head, the whole one of %d", i, len(in), n)
		}
	}
}

func FuzzRequest(f *testing.F) {
	for _, c := range requestCases {
		if len(c.in) < 2000 {
			f.Add([]byte(c.in))
		}
	}
	for _, h := range benchHeads {
		f.Add([]byte(h.head))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var r Request
		wantSameInParts(t, in, r.Parse)
		n, err := r.Parse(in)
		if n == 0 || err != nil {
			return
		}
		if err := agree(in, &r, n); err != nil {
			t.Fatal(err)
		}
		// What a proxy sends on must be read as what came.
		out := forwarded(&r)
		var again Request
		m, err := again.Parse(out)
		if m != len(out) || err != nil {
			t.Fatalf("forwarded %q gives %d, %v", out, m, err)
		}
		if err := agree(out, &again, m); err != nil {
			t.Fatalf("forwarded %q: %v", out, err)
		}
		if again.Framing != r.Framing || again.Length != r.Length || !bytes.Equal(again.Host, r.Host) && r.Minor == 1 {
			t.Fatalf("forwarded %q is read as %+v, want %+v", out, again, r)
		}
	})
}

// forwarded writes r's head as a proxy does.
func forwarded(r *Request) []byte {
	out := fmt.Appendf(nil, "%s %s%s HTTP/1.1\r\n", r.Method, r.Path, r.Query)
	if len(r.Host) == 0 {
		out = AppendField(out, "Host", "upstream")
	}
	for _, f := range r.Fields {
		if !f.Hop && (len(r.Host) > 0 || !is(f.Name, "host")) {
			out = AppendField(out, f.Name, f.Value)
		}
	}
	if len(r.Host) > 0 && r.Get("host") == nil {
		out = AppendField(out, "Host", r.Host)
	}
	switch r.Framing {
	case Length:
		out = AppendField(out, "Content-Length", fmt.Sprint(r.Length))
	case Chunked:
		out = AppendField(out, "Transfer-Encoding", "chunked")
	}
	return append(out, "\r\n"...)
}

func FuzzResponse(f *testing.F) {
	for _, c := range responseCases {
		if len(c.in) < 2000 {
			f.Add([]byte(c.in), c.method == "HEAD")
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, head bool) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		var r Response
		parse := func(buf []byte) (int, error) { return r.Parse(buf, []byte(method)) }
		wantSameInParts(t, in, parse)
		n, err := parse(in)
		if n == 0 || err != nil {
			return
		}
		if err := agreeOnResponse(in, &r, n, method); err != nil {
			t.Fatal(err)
		}
	})
}

// decode reads a body from pieces of src that end where cuts says: the data and how many bytes it took.
func decode(b *Body, src []byte, cuts []byte) (data []byte, used int, err error) {
	for at, i := 0, 0; !b.Done() && used < len(src); i++ {
		step := len(src)
		if len(cuts) > 0 {
			step = int(cuts[i%len(cuts)])
		}
		at = min(len(src), max(at, used)+1+step)
		for used < at && !b.Done() {
			piece, n, err := b.Decode(src[used:at:at])
			if err != nil {
				return data, used + n, err
			}
			if len(piece) == 0 && n != at-used && !b.Done() {
				return data, used, fmt.Errorf("BUG: no data and %d of %d bytes used", n, at-used)
			}
			data = append(data, piece...)
			used += n
		}
	}
	return data, used, nil
}

func FuzzBody(f *testing.F) {
	for _, c := range chunkCases {
		f.Add([]byte(c.in), []byte{0, 3, 200})
	}
	f.Fuzz(func(t *testing.T, in, cuts []byte) {
		var whole, parts Body
		whole.Begin(Chunked, 0)
		parts.Begin(Chunked, 0)
		data, used, err := decode(&whole, in, nil)
		data2, used2, err2 := decode(&parts, in, cuts)
		if !bytes.Equal(data, data2) || used != used2 || fmt.Sprint(err) != fmt.Sprint(err2) || whole.Done() != parts.Done() {
			t.Fatalf("whole: %q, %d, %v, %v; in parts: %q, %d, %v, %v",
				data, used, err, whole.Done(), data2, used2, err2, parts.Done())
		}
		if err != nil && strings.HasPrefix(err.Error(), "BUG") {
			t.Fatal(err)
		}
		if !whole.Done() {
			if err == nil && whole.EOF() == nil {
				t.Fatal("got no error for a body that ends early")
			}
			return
		}
		if !slices.Equal(whole.Trailer(), parts.Trailer()) {
			t.Fatalf("trailer whole %q, in parts %q", whole.Trailer(), parts.Trailer())
		}
		theirs, size, err := chunkedByNetHTTP(in)
		if err != nil {
			t.Fatalf("net/http refuses: %v", err)
		}
		if !bytes.Equal(theirs, data) || size != used {
			t.Fatalf("net/http reads %q in %d bytes, http1 %q in %d", theirs, size, data, used)
		}
		// Written again, it is the same body.
		var out []byte
		if len(data) > 0 {
			out = append(append(AppendChunkHead(nil, len(data)), data...), "\r\n"...)
		}
		out = AppendLastChunk(out, whole.Trailer())
		parts.Begin(Chunked, 0)
		again, n, err := decode(&parts, out, nil)
		if err != nil || n != len(out) || !bytes.Equal(again, data) || !bytes.Equal(parts.Trailer(), whole.Trailer()) {
			t.Fatalf("written as %q gives %q, %d, %v, trailer %q", out, again, n, err, parts.Trailer())
		}
	})
}
