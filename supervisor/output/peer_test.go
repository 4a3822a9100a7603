package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The tests of this file compare with Supervisor's own classes, run by Debian's Python.

func askPeer(t *testing.T, job map[string]any, answer any) {
	t.Helper()
	in, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/bin/python3", "-E", "testdata/peer.py")
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("Supervisor's classes failed (Debian's package supervisor is needed): %v\n%s", err, stderr.Bytes())
	}
	if err := json.Unmarshal(out, answer); err != nil {
		t.Fatalf("cannot read %q: %v", out, err)
	}
}

// folder is every file of a directory and its content.
func folder(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(data)
	}
	return files
}

func TestRotationAsSupervisor(t *testing.T) {
	for _, tc := range []struct {
		name     string
		maxbytes int64
		backups  int
		sizes    []int
		before   map[string]string
	}{
		{"never", 0, 3, []int{100, 200, 300}, nil},
		{"exactly full", 100, 2, []int{50, 50, 1}, nil},
		{"one below", 100, 2, []int{99, 1, 1}, nil},
		{"one write over many times the size", 10, 2, []int{1000, 5, 5, 5}, nil},
		{"no backups", 100, 0, []int{60, 60, 60}, nil},
		{"one backup", 100, 1, []int{60, 60, 60, 60, 60}, nil},
		{"oldest goes", 10, 3, []int{11, 12, 13, 14, 15, 16}, nil},
		{"old content counts", 100, 2, []int{20, 5}, map[string]string{"x.log": strings.Repeat("o", 90)}},
		{"old backups move", 10, 3, []int{10, 3}, map[string]string{"x.log.1": "one", "x.log.3": "three", "x.log.4": "four"}},
		{"empty log", 10, 3, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			compareRotation(t, tc.maxbytes, tc.backups, tc.sizes, tc.before)
		})
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 6 {
		t.Run(fmt.Sprint("random ", i), func(t *testing.T) {
			sizes := make([]int, 200)
			for j := range sizes {
				sizes[j] = 1 + rng.IntN(2000)
			}
			compareRotation(t, int64(1+rng.IntN(6000)), rng.IntN(6), sizes, nil)
		})
	}
}

func compareRotation(t *testing.T, maxbytes int64, backups int, sizes []int, before map[string]string) {
	t.Helper()
	ours, theirs := t.TempDir(), t.TempDir()
	for name, content := range before {
		for _, dir := range []string{ours, theirs} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	chunks := make([][]byte, len(sizes))
	for i, n := range sizes {
		chunks[i] = bytes.Repeat([]byte{byte('a' + i%26)}, n)
	}
	askPeer(t, map[string]any{"do": "rotate", "path": filepath.Join(theirs, "x.log"), "maxbytes": maxbytes, "backups": backups, "chunks": chunks}, &struct{}{})
	f, err := newFile(filepath.Join(ours, "x.log"), maxbytes, backups)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chunks {
		if _, err := f.Write(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(folder(t, theirs), folder(t, ours)); diff != "" {
		t.Errorf("files differ (-supervisor +ours):\n%s", diff)
	}
}

// captured is what a stream did with what it read.
type captured struct {
	Log, Logged []byte
	Captured    [][]byte
}

// runCapture sends chunks through a stream's pipeline, without its pipe.
func runCapture(t *testing.T, chunks [][]byte, maxbytes int64, strip bool) captured {
	t.Helper()
	hub := newHub(t, HubOptions{})
	path := filepath.Join(t.TempDir(), "x.log")
	var got captured
	s, err := hub.Open(Options{
		Program: "p", Channel: "stdout", Targets: []string{path}, CaptureMaxbytes: maxbytes, StripANSI: strip,
		OnCapture: func(b []byte) { got.Captured = append(got.Captured, bytes.Clone(b)) },
		OnLog:     func(b []byte) { got.Logged = append(got.Logged, b...) },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chunks {
		s.lock <- struct{}{}
		s.handle(c)
		s.unlock()
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got.Log, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return got
}

// The tail keeps Supervisor from sitting on the last bytes: it waits until it has more than a token's length.
const captureTail = "\n........................................\n"

func TestCaptureAsSupervisor(t *testing.T) {
	const b, e = captureBegin, captureEnd
	texts := []string{
		"plain\n",
		b + "hello" + e,
		"before " + b + "one" + e + " between " + b + "two" + e + " after",
		b + e,
		e + b + "x" + e + e,
		b + "never ended and rather long, so that nothing waits for more",
		"<!--XSUPERVISOR:BEGI" + b + "<!--XSUPERVISOR:EN" + e,
		b + "nested " + b + " begin" + e,
		"<<!--XSUPERVISOR:BEGIN-->x<!--XSUPERVISOR:END-->",
	}
	rng := rand.New(rand.NewPCG(3, 4))
	var cases [][][]byte
	for _, text := range texts {
		cuts := [][][]byte{{[]byte(text)}, everyByte(text)}
		for range 5 {
			cuts = append(cuts, randomCuts(rng, text))
		}
		for _, chunks := range cuts {
			cases = append(cases, append(chunks, []byte(captureTail)))
		}
	}
	compareCapture(t, cases, 1<<20, false)
}

func compareCapture(t *testing.T, cases [][][]byte, maxbytes int64, strip bool) {
	t.Helper()
	var want struct{ Out []captured }
	askPeer(t, map[string]any{"do": "capture", "path": filepath.Join(t.TempDir(), "x.log"), "maxbytes": maxbytes, "cases": cases, "strip": strip}, &want)
	for i, chunks := range cases {
		got := runCapture(t, chunks, maxbytes, strip)
		if diff := cmp.Diff(show(want.Out[i]), show(got)); diff != "" {
			t.Errorf("%q: (-supervisor +ours):\n%s", chunks, diff)
		}
	}
}

func TestCaptureBoundAsSupervisor(t *testing.T) {
	var cases [][][]byte
	for _, n := range []int{1, 9, 10, 11, 30} {
		inside := []byte(strings.Repeat("0123456789", 3)[:n])
		cases = append(cases, [][]byte{
			[]byte(captureBegin), append(bytes.Repeat([]byte("x"), 40), inside...), append(inside, (captureEnd + captureTail)...),
		})
	}
	compareCapture(t, cases, 45, true)
}

func show(c captured) map[string]any {
	list := []string{}
	for _, b := range c.Captured {
		list = append(list, string(b))
	}
	return map[string]any{"log": string(c.Log), "logged": string(c.Logged), "captured": list}
}

func everyByte(s string) (chunks [][]byte) {
	for i := range len(s) {
		chunks = append(chunks, []byte{s[i]})
	}
	return chunks
}

func randomCuts(rng *rand.Rand, s string) (chunks [][]byte) {
	for len(s) > 0 {
		n := 1 + rng.IntN(len(s))
		chunks, s = append(chunks, []byte(s[:n])), s[n:]
	}
	return chunks
}

func TestStripAsSupervisor(t *testing.T) {
	texts := []string{
		"", "plain", "\x1b[31mred\x1b[0m", "a\x1b[1;31mb\x1b[Kc", "\x1b", "x\x1b", "\x1b[", "\x1b[31", "\x1bOP function key", "\x1b\x1b[2Jx",
		"\x1b[?25lhidden\x1b[?25h", "[31m no escape", "\x1b[Zodd m", "ü\x1b[0mü\x1b[31m\x1b[32m",
	}
	chunks := make([][]byte, len(texts))
	for i, s := range texts {
		chunks[i] = []byte(s)
	}
	var answer struct{ Out [][]byte }
	askPeer(t, map[string]any{"do": "strip", "chunks": chunks}, &answer)
	for i, want := range answer.Out {
		var a ansiStripper
		got := string(a.strip(chunks[i]))
		if a.esc {
			got += "\x1b" // it may be the beginning of a sequence
		}
		if got != string(want) {
			t.Errorf("strip(%q) = %q, Supervisor's: %q", texts[i], got, want)
		}
	}
}

func TestReadAndTailAsSupervisor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	if err := os.WriteFile(path, []byte("0123456789abcdefghijklmnopqrstuvwxyz\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var args [][2]int64
	for _, offset := range []int64{-100, -37, -5, -1, 0, 1, 5, 36, 37, 38, 1000} {
		for _, length := range []int64{-5, -1, 0, 1, 5, 36, 37, 38, 1000} {
			args = append(args, [2]int64{offset, length})
		}
	}
	missing := filepath.Join(t.TempDir(), "none")
	for _, p := range []string{path, missing} {
		var answer struct {
			Out []struct {
				Read, Tail []byte
				Err        string
				Next       int64
				Overflow   bool
			}
		}
		askPeer(t, map[string]any{"do": "read", "path": p, "args": args}, &answer)
		for i, want := range answer.Out {
			data, err := ReadFile(p, args[i][0], args[i][1])
			if got := faultName(err); got != want.Err || string(data) != string(want.Read) {
				// Supervisor opens before it looks at the arguments; both faults are true then.
				if p != missing || want.Err != "FAILED" || got != "BAD_ARGUMENTS" {
					t.Errorf("ReadFile(%v) = %q, %q; Supervisor's: %q, %q", args[i], data, got, want.Read, want.Err)
				}
			}
			tail, next, overflow := TailFile(p, args[i][0], args[i][1])
			if string(tail) != string(want.Tail) || next != want.Next || overflow != want.Overflow {
				t.Errorf("TailFile(%v) = %q, %d, %v; Supervisor's: %q, %d, %v", args[i], tail, next, overflow, want.Tail, want.Next, want.Overflow)
			}
		}
	}
}

func faultName(err error) string {
	switch {
	case err == nil:
		return ""
	case strings.HasPrefix(err.Error(), ErrBadArguments.Error()):
		return "BAD_ARGUMENTS"
	}
	return "FAILED"
}
