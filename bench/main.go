package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/inpod/inpod/e2e/lab"
)

func main() {
	// A measurement needs small programs of a known kind; they are this binary under other names.
	if len(os.Args) > 1 {
		if role, ok := roles()[os.Args[1]]; ok {
			os.Exit(role(os.Args[2:]))
		}
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("run", "", "measure only what matches this `regexp`")
	short := flags.Bool("short", false, "fewer repeats and smaller loads; the figures are rough")
	out := flags.String("o", "bench/RESULTS.md", "`file` to write; - is standard output")
	peers := flags.String("peers", "", "beside the proxy measure only peers that match this `regexp`; ^$ is none")
	dir := flags.String("dir", "", "`directory` for temporary files, the logs among them (default: the system's)")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: cannot use -run: %v\n", err)
		return 2
	}
	b := &bench{short: *short}
	if b.peers, err = regexp.Compile(*peers); err != nil {
		fmt.Fprintf(os.Stderr, "bench: cannot use -peers: %v\n", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := b.measure(ctx, match, *dir, *out); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

// measure runs every part that matches and writes the report, also when a part failed: it then says so.
func (b *bench) measure(ctx context.Context, match *regexp.Regexp, dir, out string) error {
	tmp, err := os.MkdirTemp(dir, "inpod-bench-")
	if err != nil {
		return fmt.Errorf("cannot make a directory: %w", err)
	}
	defer os.RemoveAll(tmp)
	b.tmp = tmp
	if b.self, err = os.Executable(); err != nil {
		return fmt.Errorf("cannot find the benchmark's own binary: %w", err)
	}
	if b.bins, err = lab.Build(ctx, filepath.Join(tmp, "bin"), false); err != nil {
		return err
	}
	r := newReport(ctx, b.short)
	var failed error
	for _, p := range parts() {
		if !match.MatchString(p.name) {
			continue
		}
		began := time.Now()
		fmt.Fprintf(os.Stderr, "%-12s %s … ", p.name, p.title)
		t, err := p.run(ctx, b)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("cannot measure %s: %w", p.name, err))
			t.notes = append(t.notes, "**Failed:** "+strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		fmt.Fprintln(os.Stderr, time.Since(began).Round(100*time.Millisecond))
		t.title, t.against = p.title, p.against
		r.tables = append(r.tables, t)
		if ctx.Err() != nil {
			break // what was measured is written all the same
		}
	}
	return errors.Join(failed, r.write(out))
}

// part is one selectable measurement.
type part struct {
	name, title string
	against     string // the peer to compare with
	run         func(context.Context, *bench) (table, error)
}

func parts() []part {
	list := []part{
		{"many", "1,000 programs", python, measureMany},
		{"few", "Three programs", python, measureFew},
		{"init", "As PID 1: from the init's exec to the program's first byte", python, measureInit},
		{"logs", "Program output into a rotated log file", python, measureLogs},
		{"execs", "Short programs and orphans as PID 1", python, measureExecs},
		{"rpc", "getAllProcessInfo with 100 programs", python, measureRPC},
		{"restart", "Restarts", python, measureRestart},
		{"size", "Size", "", measureSize},
	}
	return slices.Concat(list, imageParts(), proxyParts(), sshParts())
}

// bench is what the parts share.
type bench struct {
	short bool
	tmp   string
	self  string // this binary, for its roles
	bins  lab.Binaries
	dirs  int
	peers *regexp.Regexp // which of the proxy's peers
}

// pick returns the full load, or the small one with -short.
func (b *bench) pick(full, short int) int {
	if b.short {
		return short
	}
	return full
}

// dir makes a fresh directory with a short path: a unix socket's is limited.
func (b *bench) dir() (string, error) {
	b.dirs++
	d := filepath.Join(b.tmp, fmt.Sprint(b.dirs))
	if err := os.MkdirAll(d, 0o755); err != nil {
		return "", fmt.Errorf("cannot make a directory: %w", err)
	}
	return d, nil
}
