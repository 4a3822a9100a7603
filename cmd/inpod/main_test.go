package main

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestScripts runs testdata/script/*.txtar with the real binary, also through links.
func TestScripts(t *testing.T) {
	bin := t.TempDir()
	build(t, filepath.Join(bin, "inpod"))
	for _, link := range []string{"supervisord", "supervisorctl", "shutdown", "sftp-server", "scp"} {
		if err := os.Symlink("inpod", filepath.Join(bin, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{bin, filepath.Dir(bin)} { // readable by another user too
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			// Not the work directory: a socket's path may have 108 bytes.
			run, err := os.MkdirTemp("", "inpod")
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(run) })
			env.Setenv("RUN", run)
			env.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			env.Setenv("BIN", bin)
			env.Setenv("INPOD_ADMIN_SOCKET", filepath.Join(run, "inpod.sock"))
			env.Setenv("INPOD_SSH_LISTEN", "off")
			env.Setenv("INPOD_ADMIN_LISTEN", "off")
			env.Setenv("ADDR", freeAddress(t))
			env.Setenv("INPOD_SUPERVISOR_INCLUDE", "[]")
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "root" {
				return false, fmt.Errorf("no such condition: %s", cond)
			}
			return os.Getuid() == 0, nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits, "sameout": sameOut, "expand": expand},
	})
}

// freeAddress is where nobody listens. Its port is below the range from which the kernel takes those of other tests'
// listeners and connections.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		if ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10240+rand.IntN(20000))); err == nil {
			defer ln.Close()
			return ln.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// build makes the binary, or copies the one that hack/test.sh has built for all users: the second one has no Go cache.
func build(t *testing.T, file string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-o", file, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if built := os.Getenv("TEST_BIN_DIR"); built != "" {
		cmd = exec.Command("cp", filepath.Join(built, "inpod"), file)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot make inpod: %v\n%s", err, out)
	}
}

// exits CODE COMMAND ARGS… runs a command and compares its exit code; its output goes to stdout and stderr.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		_, got, _ = strings.Cut(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("%q: exit code %q, want %s", args[1:], got, args[0])
	}
}

// sameout ARGS… runs inpod's supervisorctl and Debian's with the same arguments: output and exit code must be one.
func sameOut(ts *testscript.TestScript, _ bool, args []string) {
	run := func(path string) string {
		var out, errs bytes.Buffer
		cmd := exec.Command(path, args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = ts.Getenv("WORK"), &out, &errs
		err := cmd.Run()
		text := strings.ReplaceAll(errs.String(), path, "supervisorctl")
		return fmt.Sprintf("%v\n%s\n%s", err, out.String(), text)
	}
	// Where in Python's source an exception was raised is not ours to say.
	place := regexp.MustCompile(`: file: \S+ line: \d+`)
	want, got := run("/usr/bin/supervisorctl"), run(filepath.Join(ts.Getenv("BIN"), "supervisorctl"))
	want = place.ReplaceAllString(want, "")
	if diff := cmp.Diff(want, got); diff != "" {
		ts.Fatalf("%q (-supervisorctl +ours):\n%s", args, diff)
	}
}

// expand FILE replaces $RUN and $WORK in a file.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	text := strings.NewReplacer("$RUN", ts.Getenv("RUN"), "$WORK", ts.Getenv("WORK")).Replace(ts.ReadFile(path))
	ts.Check(os.WriteFile(path, []byte(text), 0o644))
}

var update = flag.Bool("update", false, "write docs/reference/cli.md")

func TestReference(t *testing.T) {
	const path = "../../docs/reference/cli.md"
	got := reference()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("docs/reference/cli.md is not what the commands say; run go test ./cmd/inpod -run Reference -update (-file +commands):\n%s", diff)
	}
}

// reference is the manual of the command line, from the commands themselves.
func reference() string {
	var b strings.Builder
	b.WriteString("# Command line\n\nGenerated from the commands by `go test ./cmd/inpod -run Reference -update`.\n\n" +
		"Exit codes: 0 success, 1 failure, 2 a wrong command line; `run` exits with what the agent or the main program says, `ctl` with " +
		"supervisorctl's codes.\n")
	root := newRoot(&app{})
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		section(&b, cmd)
	}
	b.WriteString("\n## supervisord\n\nThrough a link named `supervisord`, inpod takes the flags of Python's supervisord.\n\n```\n" +
		fmt.Sprintf(supervisordHelp, "supervisord") + "```\n" +
		"\n## supervisorctl\n\n```\n" + fmt.Sprintf(supervisorctlHelp, "supervisorctl", ctlUsage) + "```\n" +
		"\n## shutdown\n\n```\n" + shutdownHelp + "\n```\n")
	return b.String()
}

func section(b *strings.Builder, cmd *cobra.Command) {
	if cmd.Name() == "help" {
		return
	}
	fmt.Fprintf(b, "\n## inpod %s\n\n%s.\n\n```\n%s\n```\n", cmd.Name(), cmd.Short, cmd.UseLine())
	if cmd.Long != "" && cmd.Name() != "completion" {
		fmt.Fprintf(b, "\n```\n%s\n```\n", strings.TrimSpace(cmd.Long))
	}
	first := true
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		if first {
			b.WriteString("\n| flag | default | meaning |\n|---|---|---|\n")
			first = false
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", name, f.DefValue, f.Usage)
	})
}
