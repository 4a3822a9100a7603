package http1

// Error is why a message is refused.
type Error struct {
	Status int    // for the client: 400, 414, 417, 431, 501, 505; 502 for an upstream's response
	Reason string // one word, for metrics: "bad_request_line", "content_length", …
	Text   string // for people, in lower case
}

func (e *Error) Error() string { return e.Text }

var (
	errRequestLine = &Error{400, "bad_request_line", "the request line is not a method, a target and a version with one space between"}
	errMethod      = &Error{400, "bad_method", "the method is not a token in upper case"}
	errTarget      = &Error{400, "bad_target", "the request target is not a path or an absolute http URL in printable ASCII"}
	errConnect     = &Error{501, "connect_not_supported", "CONNECT is not supported"}
	errVersion     = &Error{505, "version", "the HTTP version is not 1.0 or 1.1"}
	errURITooLong  = &Error{414, "uri_too_long", "the request line is longer than 32 KiB"}
	errHeadTooLong = &Error{431, "head_too_large", "the head is larger than 32 KiB"}
	errManyFields  = &Error{431, "too_many_fields", "the head has more than 256 fields"}

	errLineEnd   = &Error{400, "line_end", "a line does not end with CR LF or holds a control character"}
	errFold      = &Error{400, "obs_fold", "a header line begins with a blank"}
	errFieldName = &Error{400, "field_name", "a field name is not a token directly followed by a colon"}

	errHost          = &Error{400, "host", "the Host field is not exactly one valid host name with an optional port"}
	errContentLength = &Error{400, "content_length", "Content-Length is not exactly one decimal number"}
	errCoding        = &Error{501, "transfer_encoding", "the only supported transfer coding is chunked"}
	errCodings       = &Error{400, "transfer_encoding", "Transfer-Encoding comes more than once, with Content-Length, or in HTTP/1.0"}
	errExpect        = &Error{417, "expectation", "the only supported expectation is 100-continue"}
	errTrailer       = &Error{400, "trailer", "the Trailer field announces a field that frames the message"}
	errConnection    = &Error{400, "connection", "the Connection fields have more than 32 options"}

	errStatusLine = &Error{502, "bad_status_line", "the status line is not HTTP/1.0 or HTTP/1.1, a status and a reason"}

	errChunkSize = &Error{400, "chunk_size", "a chunk size is not a hexadecimal number of at most 15 digits on a line that ends with CR LF"}
	errChunkExt  = &Error{400, "chunk_extension", "a chunk extension is longer than 1 KiB or holds a control character"}
	errChunkMany = &Error{400, "chunk_extension", "the chunks carry more extensions than data"}
	errChunkEnd  = &Error{400, "chunk_end", "a chunk's data is not followed by CR LF"}
	errTrailers  = &Error{400, "trailer", "the trailer is larger than 8 KiB or not made of valid header lines"}
	errBodyEnd   = &Error{400, "body_incomplete", "the connection ended before the body"}
)

// upstream makes e an error of the upstream's response.
func (e *Error) upstream() *Error {
	return &Error{502, e.Reason, "the upstream's response: " + e.Text}
}
