package xmlrpc

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/inpod/inpod/supervisor"
)

// version is the Supervisor release that is answered for; apiVersion that of its interface.
const (
	version    = "4.2.5"
	apiVersion = "3.0"
)

// method is one name that can be called.
type method struct {
	help    string
	returns string  // the type, for methodSignature
	params  []param // in order
	always  bool    // answered while shutting down too
	call    func(ctx context.Context, h *handler, a args) (any, error)
}

type param struct {
	typ, name string
	optional  bool // true when absent: every such parameter is wait
}

var (
	paramName   = param{typ: "string", name: "name"}
	paramWait   = param{typ: "boolean", name: "wait", optional: true}
	paramSignal = param{typ: "string", name: "signal"}
	paramOffset = param{typ: "int", name: "offset"}
	paramLength = param{typ: "int", name: "length"}
)

// args are the parameters of a call, already counted.
type args []any

func incorrect() error { return &supervisor.Fault{Code: supervisor.IncorrectParameters} }

func (a args) text(i int) (string, error) {
	s, ok := a[i].(string)
	if !ok {
		return "", incorrect()
	}
	return s, nil
}

// number takes what Python's int() takes.
func (a args) number(i int) (int64, error) {
	switch v := a[i].(type) {
	case int:
		return int64(v), nil
	case bool:
		if v {
			return 1, nil
		}
		return 0, nil
	case float64:
		return int64(v), nil
	case string:
		n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		if err != nil {
			return 0, incorrect()
		}
		return n, nil
	}
	return 0, incorrect()
}

// truth is Python's truth of an optional parameter; absent is true.
func (a args) truth(i int) bool {
	if i >= len(a) {
		return true
	}
	switch v := a[i].(type) {
	case nil:
		return false
	case bool:
		return v
	case int:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}

// wholeGroup tells that a name ("group:*" or "group:") means a group.
func wholeGroup(name string) (group string, ok bool) {
	group, process, found := strings.Cut(name, ":")
	return group, found && (process == "" || process == "*")
}

// one runs what acts on a process, or on a group when the name says so.
func one(name string, process func() error, group func(string) ([]supervisor.ProcessStatus, error)) (any, error) {
	g, whole := wholeGroup(name)
	if !whole {
		if err := process(); err != nil {
			return nil, err
		}
		return true, nil
	}
	list, err := group(g)
	var f *supervisor.Fault
	if errors.As(err, &f) && f.Code == supervisor.BadName {
		return nil, &supervisor.Fault{Code: f.Code, Detail: name} // Supervisor names what the client wrote
	}
	return statuses(list, err)
}

func statuses(list []supervisor.ProcessStatus, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = Struct{{"name", s.Name}, {"group", s.Group}, {"status", int(s.Status)}, {"description", s.Description}}
	}
	return out, nil
}

func done(err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return true, nil
}

// onText makes a method of a function of one string.
func onText(do func(ctx context.Context, h *handler, s string) (any, error)) func(context.Context, *handler, args) (any, error) {
	return func(ctx context.Context, h *handler, a args) (any, error) {
		s, err := a.text(0)
		if err != nil {
			return nil, err
		}
		return do(ctx, h, s)
	}
}

// onNameWait makes a method of a function of a name and wait.
func onNameWait(do func(ctx context.Context, h *handler, name string, wait bool) (any, error)) func(context.Context, *handler, args) (any, error) {
	return func(ctx context.Context, h *handler, a args) (any, error) {
		return onText(func(ctx context.Context, h *handler, name string) (any, error) {
			return do(ctx, h, name, a.truth(1))
		})(ctx, h, a)
	}
}

// onNameSignal makes a method of a function of a name and a signal, which may be a number.
func onNameSignal(do func(h *handler, name, sig string) (any, error)) func(context.Context, *handler, args) (any, error) {
	return func(_ context.Context, h *handler, a args) (any, error) {
		name, err := a.text(0)
		if err != nil {
			return nil, err
		}
		sig, err := a.signal(1)
		if err != nil {
			return nil, err
		}
		return do(h, name, sig)
	}
}

func (a args) signal(i int) (string, error) {
	if n, ok := a[i].(int); ok {
		return strconv.Itoa(n), nil
	}
	return a.text(i)
}

func onRange(do func(h *handler, name string, offset, length int64) (any, error)) func(context.Context, *handler, args) (any, error) {
	return func(_ context.Context, h *handler, a args) (any, error) {
		name, err := a.text(0)
		if err != nil {
			return nil, err
		}
		offset, err := a.number(1)
		if err != nil {
			return nil, err
		}
		length, err := a.number(2)
		if err != nil {
			return nil, err
		}
		return do(h, name, offset, length)
	}
}

func readLog(stream string) func(context.Context, *handler, args) (any, error) {
	return onRange(func(h *handler, name string, offset, length int64) (any, error) {
		return h.o.Supervisor.ReadLog(name, stream, offset, length)
	})
}

func tailLog(stream string) func(context.Context, *handler, args) (any, error) {
	return onRange(func(h *handler, name string, offset, length int64) (any, error) {
		text, next, overflow, err := h.o.Supervisor.TailLog(name, stream, offset, length)
		if err != nil {
			return nil, err
		}
		return []any{text, next, overflow}, nil
	})
}

func readMainLog(_ context.Context, h *handler, a args) (any, error) {
	offset, err := a.number(0)
	if err != nil {
		return nil, err
	}
	length, err := a.number(1)
	if err != nil {
		return nil, err
	}
	if h.o.MainLog == nil {
		return nil, &supervisor.Fault{Code: supervisor.NoFile}
	}
	if length < 0 || (offset < 0 && length != 0) {
		return nil, &supervisor.Fault{Code: supervisor.BadArguments}
	}
	data, err := h.o.MainLog.Read(offset, length)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &supervisor.Fault{Code: supervisor.NoFile, Detail: h.o.MainLog.Path()}
	case err != nil:
		return nil, &supervisor.Fault{Code: supervisor.Failed}
	}
	return string(data), nil
}

func clearMainLog(_ context.Context, h *handler, _ args) (any, error) {
	if h.o.MainLog == nil {
		return nil, &supervisor.Fault{Code: supervisor.NoFile}
	}
	err := h.o.MainLog.Clear()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &supervisor.Fault{Code: supervisor.NoFile}
	case err != nil:
		return nil, &supervisor.Fault{Code: supervisor.Failed}
	}
	return true, nil
}

func getState(_ context.Context, h *handler, _ args) (any, error) {
	code, name := h.state()
	return Struct{{"statecode", code}, {"statename", name}}, nil
}

func reloadConfig(_ context.Context, h *handler, _ args) (any, error) {
	added, changed, removed, err := h.o.Supervisor.Reread()
	if err != nil {
		var f *supervisor.Fault
		if !errors.As(err, &f) {
			err = &supervisor.Fault{Code: supervisor.CantReread, Detail: err.Error()}
		}
		return nil, err
	}
	return []any{[]any{slices.Clip(added), changed, removed}}, nil
}

func sendStdin(_ context.Context, h *handler, a args) (any, error) {
	name, err := a.text(0)
	if err != nil {
		return nil, err
	}
	chars, ok := a[1].(string)
	if !ok {
		return nil, &supervisor.Fault{Code: supervisor.IncorrectParameters, Detail: pyText(a[1])}
	}
	return done(h.o.Supervisor.SendStdin(name, chars))
}

// pyText is how Python prints a value that is no string; what is not a scalar is left out.
func pyText(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case int:
		return strconv.Itoa(v)
	}
	return ""
}

func sendComm(_ context.Context, h *handler, a args) (any, error) {
	typ, err := a.text(0)
	if err != nil {
		return nil, err
	}
	data, err := a.text(1)
	if err != nil {
		return nil, err
	}
	return done(h.o.Supervisor.SendCommEvent(typ, data))
}
