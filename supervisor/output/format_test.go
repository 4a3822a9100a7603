package output

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFormats(t *testing.T) {
	clock := func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC) }
	for _, tc := range []struct{ name, format, in, want string }{
		{"raw", FormatRaw, "one\ntwo\n\nrest", "prog | one\nprog | two\nprog | \nprog | rest\n"},
		{"json", FormatJSON, "a \"quoted\" <line>\r\n", `{"time":"2026-01-02T03:04:05.000006Z","program":"prog","stream":"stdout","msg":"a \"quoted\" <line>"}` + "\n"},
		{"json of json", FormatJSON, ` {"level":"info","n":1} ` + "\n", `{"time":"2026-01-02T03:04:05.000006Z","program":"prog","stream":"stdout","data":{"level":"info","n":1}}` + "\n"},
		{"json of broken json", FormatJSON, `{"level":` + "\n", `{"time":"2026-01-02T03:04:05.000006Z","program":"prog","stream":"stdout","msg":"{\"level\":"}` + "\n"},
		{"json of an empty line", FormatJSON, "\n", `{"time":"2026-01-02T03:04:05.000006Z","program":"prog","stream":"stdout","msg":""}` + "\n"},
		{"json of bytes", FormatJSON, "\xff\x00\n", `{"time":"2026-01-02T03:04:05.000006Z","program":"prog","stream":"stdout","msg":"` + `\ufffd\u0000"}` + "\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.log")
			s := open(t, newHub(t, HubOptions{Now: clock}), Options{Format: tc.format, Targets: []string{path}})
			say(t, s, tc.in)
			end(t, s)
			wantContent(t, path, tc.want)
		})
	}
}

func TestLongLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	s := open(t, newHub(t, HubOptions{PartialDelay: time.Hour}), Options{Format: FormatJSON, Targets: []string{path}})
	long := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	say(t, s, "short\n"+long+"\nlast\n")
	end(t, s)
	var msgs []string
	var partial int
	for line := range strings.Lines(content(t, path)) {
		var l jsonLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %.80q", err, line)
		}
		if len(*l.Msg) > maxLine {
			t.Errorf("a part of %d bytes", len(*l.Msg))
		}
		if l.Partial {
			partial++
		}
		msgs = append(msgs, *l.Msg)
	}
	if got := strings.Join(msgs, ""); got != "short"+long+"last" {
		t.Errorf("%d bytes came out, want %d", len(got), len(long)+9)
	}
	if partial < 15 {
		t.Errorf("%d parts are marked as partial, want 15 or 16", partial)
	}
}

func TestOnLineAndOnData(t *testing.T) {
	var data, lines lockedBuffer
	s := open(t, newHub(t, HubOptions{}), Options{
		StripANSI: true,
		OnData:    func(b []byte) { _, _ = data.Write(b) },
		OnLine:    func(b []byte) { fmt.Fprintf(&lines, "%q ", b) },
	})
	say(t, s, "\x1b[1mready\x1b[0m\n\nhalf")
	end(t, s)
	if got, want := data.String(), "\x1b[1mready\x1b[0m\n\nhalf"; got != want {
		t.Errorf("data %q, want %q", got, want)
	}
	if got, want := lines.String(), `"ready" "" "half" `; got != want {
		t.Errorf("lines %s, want %s", got, want)
	}
}
