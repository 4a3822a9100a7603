package http1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/valyala/fasthttp"
)

// view is how one reader understands a request.
type view struct {
	Method, Target, Host string
	Length               int64 // -1 for chunked
	Head                 int   // bytes of the head
	Close                bool
	Fields               int
}

func ours(r *Request, n int) view {
	v := view{
		Method: string(r.Method), Target: string(r.Target), Host: string(r.Host), Length: r.Length,
		Head: n, Close: !r.KeepAlive, Fields: len(r.Fields),
	}
	if r.Framing == Chunked {
		v.Length = -1
	}
	return v
}

// bufferedReader is large enough for every head: a buffer that is too small is no verdict.
func bufferedReader(in []byte) (*bufio.Reader, func() int) {
	src := bytes.NewReader(in)
	br := bufio.NewReaderSize(src, 2*MaxHead)
	return br, func() int { return len(in) - src.Len() - br.Buffered() }
}

func netHTTP(in []byte) (view, error) {
	br, used := bufferedReader(in)
	req, err := http.ReadRequest(br)
	if err != nil {
		return view{}, fmt.Errorf("net/http refuses: %w", err)
	}
	v := view{
		Method: req.Method, Target: req.RequestURI, Host: req.Host, Length: req.ContentLength, Head: used(), Close: req.Close,
	}
	return v, nil
}

func fastHTTP(in []byte) (view, error) {
	br, used := bufferedReader(in)
	var h fasthttp.RequestHeader
	if err := h.Read(br); err != nil {
		return view{}, fmt.Errorf("fasthttp refuses: %w", err)
	}
	v := view{
		Method: string(h.Method()), Target: string(h.RequestURI()), Host: string(h.Host()),
		Length: max(int64(h.ContentLength()), -1), Head: used(), Close: h.ConnectionClose(),
	}
	if h.ContentLength() < -1 { // neither Content-Length nor chunked
		v.Length = 0
	}
	return v, nil
}

func dropsTrailer(r *Request) bool {
	return slices.ContainsFunc(r.Fields, func(f Field) bool { return f.Hop && is(f.Name, "trailer") })
}

// agree holds an accepted request against what others make of the same bytes.
func agree(in []byte, r *Request, n int) error {
	want := ours(r, n)
	// Neither of the two takes the empty line before the request line in the same way: net/http refuses it.
	if bytes.HasPrefix(in, []byte("\r\n")) {
		in = in[2:]
		want.Head -= 2
	}
	want.Fields = 0
	got, err := netHTTP(in)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("net/http reads %+v, http1 %+v", got, want)
	}
	got, err = fastHTTP(in)
	if errors.Is(err, fasthttp.ErrBadTrailer) && dropsTrailer(r) {
		return nil // a Trailer field that it refuses, and that is not passed on
	}
	if err != nil {
		return err
	}
	if want.Target[0] != '/' {
		// fasthttp prefers the Host field to the absolute-form; a caller of Parse sends the target's host in both.
		got.Host = want.Host
	}
	// fasthttp knows Connection fields of one option only.
	got.Close = want.Close
	if got != want {
		return fmt.Errorf("fasthttp reads %+v, http1 %+v", got, want)
	}
	return nil
}

// chunkedByNetHTTP reads a chunked body: its data and how many bytes it takes.
func chunkedByNetHTTP(in []byte) (data []byte, used int, err error) {
	const head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	br, at := bufferedReader(append([]byte(head), in...))
	req, err := http.ReadRequest(br)
	if err != nil {
		return nil, 0, err
	}
	data, err = io.ReadAll(req.Body)
	return data, at() - len(head), err
}

// agreeOnResponse holds an accepted response against what net/http and fasthttp make of the same bytes.
func agreeOnResponse(in []byte, r *Response, n int, method string) error {
	if r.Status == 100 || r.Status == 101 {
		return nil // theirs is to wait for the next response, or to leave the connection to the caller
	}
	br, used := bufferedReader(in)
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		return fmt.Errorf("net/http refuses: %w", err)
	}
	length := map[Framing]int64{NoBody: r.Length, Length: r.Length, Chunked: -1, UntilClose: -1}[r.Framing]
	theirs := resp.ContentLength
	if r.Framing == NoBody {
		theirs = length // net/http says 0 or -1, as the status has it
	}
	if resp.StatusCode != r.Status || theirs != length || used() != n {
		return fmt.Errorf("net/http reads %d, length %d in %d bytes, http1 %+v in %d", resp.StatusCode, theirs, used(), r, n)
	}
	if chunked := len(resp.TransferEncoding) > 0; r.Framing != NoBody && chunked != (r.Framing == Chunked) {
		return fmt.Errorf("net/http: chunked is %v, http1 %+v", chunked, r)
	}
	if r.Framing == UntilClose && r.KeepAlive || r.KeepAlive && resp.Close {
		return fmt.Errorf("net/http: close is %v, http1 %+v", resp.Close, r)
	}
	fbr, fused := bufferedReader(in)
	var h fasthttp.ResponseHeader
	if err := h.Read(fbr); err != nil {
		return fmt.Errorf("fasthttp refuses: %w", err)
	}
	if h.StatusCode() != r.Status || fused() != n {
		return fmt.Errorf("fasthttp reads %d in %d bytes, http1 %+v in %d", h.StatusCode(), fused(), r, n)
	}
	if got := int64(h.ContentLength()); r.Framing == Length && got != length || r.Framing == Chunked && got != -1 {
		return fmt.Errorf("fasthttp reads length %d, http1 %+v", got, r)
	}
	return nil
}
