package agent

import (
	"io"
	"strings"
	"testing"

	"github.com/inpod/inpod/config"
)

// A logger that was handed out has the new settings at once, with all that was added to it.
func TestLoggersFollow(t *testing.T) {
	var out strings.Builder
	l := &logs{stdout: &out}
	l.apply(config.Log{Level: "info", Format: "json"}, "info")
	log := l.logger().With("part", "ssh").WithGroup("g").With("a", 1)
	want := func(what, has string) {
		t.Helper()
		if got := out.String(); !strings.Contains(got, has) || has == "" && got != "" {
			t.Errorf("%s: logged %q, want %q", what, got, has)
		}
		out.Reset()
	}
	for range 2 {
		log.Info("hello", "b", 2)
		want("json", `"msg":"hello","part":"ssh","g":{"a":1,"b":2}}`)
	}
	l.apply(config.Log{Level: "info", Format: "text"}, "info")
	log.Info("hello", "b", 2)
	want("text", "msg=hello part=ssh g.a=1 g.b=2")
	l.apply(config.Log{Level: "error", Format: "text"}, "info")
	log.Info("hello")
	want("errors only", "")
}

func BenchmarkLog(b *testing.B) {
	l := &logs{stdout: io.Discard}
	l.apply(config.Log{Level: "info", Format: "json"}, "info")
	log := l.logger().With("part", "ssh").With("connection", 1, "from", "127.0.0.1:1234").With("user", "root").With("session", 1)
	b.ReportAllocs()
	for b.Loop() {
		log.Info("transfer", "path", "/data/file", "direction", "read", "bytes", 4096)
	}
}
