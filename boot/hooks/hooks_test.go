package hooks

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/proc"
)

// buffer is a log that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// patience bounds every wait of these tests: a busy machine is no failure.
const patience = time.Minute

// wait waits until the log has text: who reads a hook's output may be later than its end.
func (b *buffer) wait(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(b.String(), text); <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the log has no %s:\n%s", text, b)
		}
	}
}

func newRunner(t *testing.T) (*Runner, *buffer) {
	t.Helper()
	reaper, err := proc.New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := reaper.StopRest(ctx, time.Second); err != nil {
			t.Error(err)
		}
		_ = reaper.Close()
	})
	log := &buffer{}
	return &Runner{
		Reaper: reaper, Log: slog.New(slog.NewTextHandler(log, nil)), Env: []string{"PATH=" + os.Getenv("PATH"), "GREETING=hello"},
		Split:   func(line string) ([]string, error) { return strings.Fields(line), nil },
		Account: func(name string) (Account, error) { return Account{}, errors.New("no such user") },
	}, log
}

func line(s string) []string { return []string{"/bin/sh", "-c", s} }

func TestRun(t *testing.T) {
	for name, tt := range map[string]struct {
		hook config.Hook
		code int
		err  string
		log  []string
	}{
		"output": {
			config.Hook{Command: line("echo $GREETING; echo bad >&2; printf last")},
			0, "",
			[]string{`msg="hook output" hook=h stream=stdout line=hello`, `stream=stderr line=bad`, `stream=stdout line=last`, `msg="hook done" hook=h code=0`},
		},
		"exit code":    {config.Hook{Command: line("exit 7")}, 7, "exit status 7", []string{`msg="hook failed" hook=h error="exit status 7" code=7`}},
		"signal":       {config.Hook{Command: line("kill -9 $$")}, 137, "terminated by SIGKILL", nil},
		"words":        {config.Hook{Command: []string{"echo", "a  b", "$GREETING"}}, 0, "", []string{`line="a  b $GREETING"`}},
		"missing":      {config.Hook{Command: []string{"nosuchcommand"}}, -1, "can't find command 'nosuchcommand'", nil},
		"directory":    {config.Hook{Command: []string{"pwd"}, Directory: "/usr"}, 0, "", []string{"line=/usr"}},
		"path in it":   {config.Hook{Command: []string{"./sh", "-c", "pwd; echo $0"}, Directory: "/bin"}, 0, "", []string{"line=./sh"}},
		"no directory": {config.Hook{Command: []string{"pwd"}, Directory: "/nosuch"}, -1, "no such file or directory", nil},
		"no user":      {config.Hook{Command: []string{"pwd"}, User: "nosuch"}, -1, `cannot run as "nosuch": no such user`, nil},
		"long line":    {config.Hook{Command: line("head -c 40000 /dev/zero | tr '\\0' x; echo; echo end")}, 0, "", []string{"line=end"}},
		"timeout": {
			// Long enough for a shell to get to its trap on a machine that is busy.
			config.Hook{Command: line("trap 'echo told; exit 3' TERM; echo up; sleep 600 & wait"), Timeout: 3 * time.Second},
			3, `cannot finish "/bin/sh": timeout after 3s`,
			[]string{"line=told"},
		},
		"exists":                  {config.Hook{Command: []string{"true"}, IfExists: "/bin/sh"}, 0, "", nil},
		"no directory on the way": {config.Hook{Command: []string{"false"}, IfExists: "/bin/sh/x"}, 0, "", []string{`msg="hook skipped" hook=h missing=/bin/sh/x`}},
		"skipped":                 {config.Hook{Command: []string{"false"}, IfExists: "/nosuch"}, 0, "", []string{`msg="hook skipped" hook=h missing=/nosuch`}},
	} {
		t.Run(name, func(t *testing.T) {
			r, log := newRunner(t)
			tt.hook.Name = "h"
			got := r.Run(t.Context(), tt.hook)
			text := ""
			if got.Err != nil {
				text = got.Err.Error()
			}
			if got.Code != tt.code || tt.err == "" && text != "" || !strings.Contains(text, tt.err) {
				t.Errorf("got code %d, %q; want %d, %q", got.Code, text, tt.code, tt.err)
			}
			for _, want := range tt.log {
				log.wait(t, want)
			}
		})
	}
}

// The agent's stop ends a hook, and what it had started.
func TestStop(t *testing.T) {
	r, log := newRunner(t)
	ctx, cancel := context.WithCancel(t.Context())
	mark := filepath.Join(t.TempDir(), "mark")
	go func() {
		for {
			if _, err := os.Stat(mark); err == nil {
				cancel()
				return
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return
			}
		}
	}()
	got := r.Run(ctx, config.Hook{Name: "h", Command: line("sleep 1000 & touch " + mark + "; wait")})
	if !errors.Is(got.Err, context.Canceled) || got.Code != 143 || got.Took > patience { // far from the sleep's end
		t.Errorf("got %+v\n%s", got, log)
	}
}

// A service that a start script leaves behind goes on, and its output is read.
func TestLeftBehind(t *testing.T) {
	r, log := newRunner(t)
	go_ := filepath.Join(t.TempDir(), "go")
	got := r.Run(t.Context(), config.Hook{Name: "h", Command: line("(while [ ! -e " + go_ + " ]; do sleep 0.05; done; echo later) & echo now")})
	log.wait(t, "line=now")
	if got.Err != nil || strings.Contains(log.String(), "line=later") {
		t.Fatalf("got %+v\n%s", got, log)
	}
	if err := os.WriteFile(go_, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	log.wait(t, "line=later") // it is still read
}

// A long line is cut between two characters.
func TestLongLinesAreCutBetweenCharacters(t *testing.T) {
	for _, text := range []string{
		"x" + strings.Repeat("ü", maxLine), "xx" + strings.Repeat("字", maxLine), "x" + strings.Repeat("😀", maxLine) + "\nend",
		strings.Repeat("\xff", 2*maxLine), strings.Repeat("\xe5", 2*maxLine) + "\n" + "x",
	} {
		var got strings.Builder
		copyLines(strings.NewReader(text), func(line string) {
			if utf8.ValidString(text) && !utf8.ValidString(line) {
				t.Errorf("%.8q…: a line begins with %.8q and is not cut between characters", text, line)
			}
			if len(line) > maxLine+utf8.UTFMax {
				t.Errorf("%.8q…: a line has %d bytes", text, len(line))
			}
			got.WriteString(line)
		})
		if want := strings.ReplaceAll(text, "\n", ""); got.String() != want {
			t.Errorf("%.8q…: %d bytes came of %d", text, got.Len(), len(want))
		}
	}
}

func FuzzCopyLines(f *testing.F) {
	for _, s := range []string{"", "a\nb", "\n\n", "a\r\n", strings.Repeat("x", maxLine+1)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var lines []string
		copyLines(strings.NewReader(s), func(line string) { lines = append(lines, line) })
		want := strings.TrimRight(strings.ReplaceAll(strings.ReplaceAll(s, "\r", ""), "\n", ""), "\n")
		if got := strings.ReplaceAll(strings.Join(lines, ""), "\r", ""); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
