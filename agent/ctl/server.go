package ctl

import (
	"context"
	"fmt"
	"io"

	"github.com/inpod/inpod/supervisor"
)

// Server is one supervisord as the actions see it.
type Server interface {
	// Call runs one XML-RPC method. Its error is a *Fault when the server answered with one, an
	// *HTTPError when it answered with another status than 200, else what the network said.
	// Structs come back as map[string]any, arrays as []any, the rest as string, int, bool or float64.
	Call(ctx context.Context, method string, args ...any) (any, error)
	// Stream opens a log that goes on for ever: /logtail/NAME/stdout or /mainlogtail. The errors are those of Call.
	Stream(ctx context.Context, path string) (io.ReadCloser, error)
	AdminAPI
}

// Fault is an XML-RPC fault.
type Fault struct {
	Code supervisor.FaultCode
	Text string // faultString
}

func (f *Fault) Error() string {
	return fmt.Sprintf("<Fault %d: %s>", int(f.Code), pyRepr(f.Text))
}

// HTTPError is an answer that is no XML-RPC.
type HTTPError struct {
	Status int
	Reason string // "Unauthorized"
}

func (e *HTTPError) Error() string {
	return fmt.Sprintf("<ProtocolError for 127.0.0.1/RPC2: %d %s>", e.Status, e.Reason)
}

// URLError is a server URL of a scheme that nobody speaks.
type URLError struct{ URL string }

func (e *URLError) Error() string { return "Unknown protocol for serverurl " + e.URL }

// record is one struct of an answer.
type record map[string]any

func (r record) str(key string) string {
	s, _ := r[key].(string)
	return s
}

func (r record) num(key string) int {
	switch n := r[key].(type) {
	case int:
		return n
	case int64:
		return int(n)
	case int32:
		return int(n)
	case bool:
		if n {
			return 1
		}
	}
	return 0
}

func (r record) truth(key string) bool {
	b, _ := r[key].(bool)
	return b || r.num(key) != 0
}

func (r record) code() supervisor.FaultCode { return supervisor.FaultCode(r.num("status")) }

// name is what the user calls the process: a process named as its group needs no prefix.
func (r record) name() string { return joinName(r.str("group"), r.str("name")) }

func asRecords(v any) []record {
	list, _ := v.([]any)
	out := make([]record, 0, len(list))
	for _, item := range list {
		m, _ := item.(map[string]any)
		out = append(out, record(m))
	}
	return out
}

func asStrings(v any) []string {
	list, _ := v.([]any)
	out := make([]string, 0, len(list))
	for _, item := range list {
		s, _ := item.(string)
		out = append(out, s)
	}
	return out
}

func asRecord(v any) record {
	m, _ := v.(map[string]any)
	return record(m)
}
