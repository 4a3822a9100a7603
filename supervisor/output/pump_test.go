package output

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// TestLinesWithoutAPauseAreGathered writes line by line: not each of them may cost a read and a write.
func TestLinesWithoutAPauseAreGathered(t *testing.T) {
	const lines = 20_000 // more than the pipe holds
	var pieces, size atomic.Int64
	s := open(t, newHub(t, HubOptions{}), Options{
		Targets: []string{filepath.Join(t.TempDir(), "x.log")},
		OnLog:   func(b []byte) { pieces.Add(1); size.Add(int64(len(b))) },
	})
	for range lines {
		say(t, s, "123456789\n")
	}
	end(t, s)
	if got, want := size.Load(), int64(lines*10); got != want {
		t.Errorf("got %d bytes, want %d", got, want)
	}
	if got := pieces.Load(); got > lines/4 {
		t.Errorf("got %d lines in %d pieces, want %d pieces at most", lines, got, lines/4)
	}
	t.Logf("%d lines in %d pieces", lines, pieces.Load())
}

// TestPlainLinesAreAsTheEncoderMakesThem holds the short way of plain lines against the encoder.
func TestPlainLinesAreAsTheEncoderMakesThem(t *testing.T) {
	const now = "2026-01-02T03:04:05.000000006Z"
	for _, line := range []string{"", "a line", " ~!@#$%^&*()_+-=[];':,./?<>|", "<&>", `a "quote"`, `back\slash`, "tab\t", "ümlaut", "\x7f", "{}", "{"} {
		s := &Stream{opt: Options{Program: "web_0", Channel: "stdout", Format: FormatJSON}}
		got := s.appendJSON(nil, now, []byte(line), false)
		var want bytes.Buffer
		l := jsonLine{Time: now, Program: "web_0", Stream: "stdout"}
		if line == "{}" {
			l.Data = json.RawMessage(line)
		} else {
			l.Msg = &line
		}
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(l); err != nil {
			t.Fatal(err)
		}
		if string(got) != want.String() {
			t.Errorf("line %q: got %s, want %s", line, got, want.String())
		}
	}
}
