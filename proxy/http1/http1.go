// Package http1 reads the heads and bodies of HTTP/1.x messages that pass through a proxy (RFC 9110, RFC 9112).
//
// Enter at Request.Parse, Response.Parse and Body.Decode. They look at bytes that the caller holds, copy nothing and
// allocate nothing once warm; what they return points into those bytes. They are strict: what two servers could
// read differently is an error, never a guess. The package opens no connection and decides no policy: which fields are
// passed on, and where to, is the caller's business.
package http1

// MaxHead is the most bytes that a head may take, its empty line included.
const MaxHead = 32 << 10

// MaxFields is the most header lines that a head may have.
const MaxFields = 256

// Framing says how a message's body ends (RFC 9112 section 6.3).
type Framing uint8

const (
	NoBody     Framing = iota // there is none
	Length                    // after Length bytes
	Chunked                   // with the last chunk and the trailer
	UntilClose                // with the connection; of responses only
)

// Field is one header line.
type Field struct {
	Name, Value []byte // as sent; Value without the blanks around it
	// Hop tells that the field is not passed on. It concerns this connection only (RFC 9110 section 7.6.1: Connection and
	// what it names, Keep-Alive, Proxy-Connection, TE, Upgrade, Proxy-Authorization; not Trailer), or it says what the
	// caller says itself (Content-Length, Transfer-Encoding, Expect), or a CGI-like server would take it for another
	// field (X_Forwarded_For).
	Hop bool
}

// Request is the head of a request. The slices are valid as long as the bytes that Parse was given.
type Request struct {
	Method []byte
	Target []byte // as sent: origin-form, absolute-form or *
	Path   []byte // of Target, not decoded, without the query; "*" for asterisk-form; never empty
	Query  []byte // of Target, with its ?; empty when there is none
	Host   []byte // of the absolute-form, else of the Host field; empty only in HTTP/1.0
	Minor  int    // 1 for HTTP/1.1, 0 for HTTP/1.0
	// Fields are all lines in their order. With a target in absolute-form the Host field's Value is that of the target,
	// which wins (RFC 9112 section 3.2.2).
	Fields []Field

	Framing   Framing // NoBody, Length (0 when the client said so) or Chunked
	Length    int64   // of Framing Length
	KeepAlive bool    // the client keeps the connection
	Continue  bool    // Expect: 100-continue of an HTTP/1.1 request with a body
	// Upgrade is the Upgrade field's value when Connection names it in HTTP/1.1 and there is no body; else nil. It is nil
	// for h2c too: a connection that speaks HTTP/2 behind our back would pass every rule by.
	Upgrade []byte
}

// Response is the head of a response. The slices are valid as long as the bytes that Parse was given.
type Response struct {
	Status int // 100 to 999
	Reason []byte
	Minor  int
	Fields []Field

	Framing   Framing
	Length    int64  // of Framing Length; with NoBody (HEAD, 304) what Content-Length says, -1 without
	KeepAlive bool   // the upstream keeps the connection, and nobody can doubt where this response ends
	Upgrade   []byte // of 101: the Upgrade field's value; else nil
}

// Get returns the first value of the field with this name, in whatever case, or nil.
func (r *Request) Get(name string) []byte { return get(r.Fields, name) }

// Get returns the first value of the field with this name, in whatever case, or nil.
func (r *Response) Get(name string) []byte { return get(r.Fields, name) }

func get(fields []Field, name string) []byte {
	for i := range fields {
		f := &fields[i]
		if len(f.Name) == len(name) && fold(f.Name[0]) == fold(name[0]) && equalFold(f.Name, name) {
			return f.Value
		}
	}
	return nil
}

// AppendField appends a header line to dst.
func AppendField[N, V []byte | string](dst []byte, name N, value V) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

// preface is what an HTTP/2 client sends first (RFC 9113 section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// PrefaceLen is how many bytes it takes to be sure.
const PrefaceLen = len(preface)

// Preface tells whether buf begins with the HTTP/2 client preface, or may do so when more has come.
func Preface(buf []byte) (is, maybe bool) {
	if len(buf) >= len(preface) {
		return string(buf[:len(preface)]) == preface, false
	}
	return false, string(buf) == preface[:len(buf)]
}
