package traffic

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Mode is what the upstream does with a request.
type Mode string

// The first are answers as they should be; from Reset on they are broken.
const (
	Length   Mode = "length"   // a body with a Content-Length
	Chunked  Mode = "chunked"  // in chunks
	Trailers Mode = "trailers" // in chunks, and the trailer X-Sum
	Echo     Mode = "echo"     // the request's body, in chunks while it comes
	Fails    Mode = "fails"    // status 500 and a body
	NoBody   Mode = "nobody"   // status 204
	Same     Mode = "same"     // status 304 with a Content-Length and no body
	Early    Mode = "early"    // answers, and reads the request's body only then
	Hasty    Mode = "hasty"    // answers before the body has come, says close, and reads what still comes
	ToClose  Mode = "toclose"  // a body whose end is the end of the connection
	Leaves   Mode = "leaves"   // an answer after which the connection is closed, unannounced and in the same packet
	Events   Mode = "events"   // Size server-sent events, Delay milliseconds apart

	Reset    Mode = "reset"    // half of a body, and a reset
	Cut      Mode = "cut"      // a chunked body that ends inside a chunk
	Short    Mode = "short"    // half of a body with a Content-Length, and a proper end of the connection
	Garbage  Mode = "garbage"  // no HTTP
	HalfHead Mode = "halfhead" // half of a header
	Mute     Mode = "mute"     // closes without a word
	Hangs    Mode = "hangs"    // never answers
)

var (
	sound  = []Mode{Length, Chunked, Trailers, Echo, Fails, NoBody, Same, Early, Hasty, ToClose, Leaves}
	broken = []Mode{Reset, Cut, Short, Garbage, HalfHead, Mute}
)

// Ask is a request and what must come of it.
type Ask struct {
	ID      string
	Method  string
	Mode    Mode
	Size    int  // of the answer's body
	Up      int  // of the request's body; -1: none
	Chunked bool // the request's body comes in chunks
	Path    string
	Delay   int // milliseconds until the upstream answers
	Header  string
}

// NewID is an id that no other request has.
func NewID() string { return strconv.FormatUint(1<<63|rand.Uint64(), 36) }

// Pattern is the body of size n that belongs to an id.
func Pattern(id string, n int) []byte {
	return bytes.Repeat([]byte(id+"."), n/(len(id)+1)+1)[:n]
}

// Broken tells whether the upstream will break this answer.
func (a *Ask) Broken() bool {
	switch a.Mode {
	case Reset, Cut, Short, Garbage, HalfHead, Mute, Hangs:
		return true
	}
	return false
}

// Target is the request's path and query.
func (a *Ask) Target() string {
	return fmt.Sprintf("%s?do=%s&id=%s&n=%d&up=%d&d=%d", a.Path, a.Mode, a.ID, a.Size, a.Up, a.Delay)
}

// parseAsk is what a request that came asks for.
func parseAsk(method string, u *url.URL) (*Ask, error) {
	q := u.Query()
	a := &Ask{ID: q.Get("id"), Mode: Mode(q.Get("do")), Method: method, Path: u.Path}
	for _, f := range []struct {
		name string
		to   *int
	}{{"n", &a.Size}, {"up", &a.Up}, {"d", &a.Delay}} {
		n, err := strconv.Atoi(q.Get(f.name))
		if err != nil {
			return nil, fmt.Errorf("cannot parse %q of %q: %w", f.name, u, err)
		}
		*f.to = n
	}
	return a, nil
}

// Write sends the request.
func (a *Ask) Write(w *bufio.Writer, host string) error {
	fmt.Fprintf(w, "%s %s HTTP/1.1\r\nHost: %s\r\nX-Id: %s\r\n%s", a.Method, a.Target(), host, a.ID, a.Header)
	body := []byte(nil)
	if a.Up >= 0 {
		body = Pattern(a.ID, a.Up)
	}
	switch {
	case a.Up < 0:
		w.WriteString("\r\n")
	case a.Chunked:
		w.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		for i := 1; len(body) > 0; i++ {
			n := min(len(body), 1+i*i*37%5000)
			fmt.Fprintf(w, "%x\r\n%s\r\n", n, body[:n])
			body = body[n:]
		}
		w.WriteString("0\r\n\r\n")
	default:
		fmt.Fprintf(w, "Content-Length: %d\r\n\r\n", a.Up)
		w.Write(body)
	}
	return w.Flush()
}

// Outcome is what came of a request.
type Outcome int

const (
	Right   Outcome = iota // all of the answer, and nothing else
	Refused                // a clear error of the proxy's own
	Aborted                // a part of the answer, and the client can see that it is not all
	Wrong                  // anything else; the error says what
)

// status is what the upstream answers with.
func (a *Ask) status() int {
	switch a.Mode {
	case Fails:
		return http.StatusInternalServerError
	case NoBody:
		return http.StatusNoContent
	case Same:
		return http.StatusNotModified
	}
	return http.StatusOK
}

// Check reads the body of an answer and says what it is.
func (a *Ask) Check(resp *http.Response) (Outcome, error) {
	got, err := io.ReadAll(resp.Body)
	if reason := resp.Header.Get("X-Inpod-Error"); reason != "" {
		switch {
		case resp.Header.Get("X-Id") != "":
			return Wrong, fmt.Errorf("an error of the proxy's own (%s) with the id %s of an answer", reason, resp.Header.Get("X-Id"))
		case err != nil:
			return Wrong, fmt.Errorf("an error of the proxy's own (%s) that breaks off: %w", reason, err)
		case resp.StatusCode < 502 || resp.StatusCode > 504:
			return Wrong, fmt.Errorf("status %d %s (%s)", resp.StatusCode, reason, got)
		}
		return Refused, nil
	}
	want := Pattern(a.ID, a.Size)
	switch a.Mode {
	case Events:
		want = nil
		for i := range a.Size {
			want = append(want, a.event(i)...)
		}
	case Echo:
		want = Pattern(a.ID, max(a.Up, 0))
	}
	if a.Method == http.MethodHead || a.Mode == NoBody || a.Mode == Same {
		want = nil
	}
	switch {
	case resp.StatusCode != a.status():
		return Wrong, fmt.Errorf("status %d, want %d (%.200s)", resp.StatusCode, a.status(), got)
	case resp.Header.Get("X-Id") != a.ID:
		return Wrong, fmt.Errorf("the answer of %q", resp.Header.Get("X-Id"))
	case !bytes.HasPrefix(want, got):
		return Wrong, fmt.Errorf("a body of %d bytes that is not a part of the right one of %d: %s", len(got), len(want), differs(got, want))
	case err != nil:
		return Aborted, nil
	case len(got) != len(want):
		return Wrong, fmt.Errorf("a body of %d bytes that seems complete, want %d", len(got), len(want))
	case a.Mode == Trailers && a.Method != http.MethodHead && resp.Trailer.Get("X-Sum") != a.ID:
		return Wrong, fmt.Errorf("the trailer X-Sum is %q", resp.Trailer.Get("X-Sum"))
	}
	return Right, nil
}

// event is one server-sent event; the last one says so.
func (a *Ask) event(i int) string {
	if i == a.Size-1 {
		return fmt.Sprintf("id: %s\ndata: done\n\n", a.ID)
	}
	return fmt.Sprintf("id: %s\ndata: %d\n\n", a.ID, i)
}

func differs(got, want []byte) string {
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	end := min(i+40, len(got))
	return fmt.Sprintf("from byte %d on: %s", i, strings.TrimSpace(strconv.Quote(string(got[i:end]))))
}
