package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// table is the outcome of one part.
type table struct {
	title   string
	against string // the peer that the ratios are to; "" = none
	rows    []row
	notes   []string
}

// row is one figure, measured on inpod and on peers. A peer it does not apply to is absent.
type row struct {
	what   string
	unit   unit
	better direction
	of     map[string]float64
	aims   []aim
}

type direction int

const (
	lower direction = iota
	higher
)

// aim is what the project set itself, for inpod's figure: at most, or at least where more is better, so much, or so
// many times the figure of a peer in the same run.
type aim struct {
	limit float64
	peer  string // "" = the limit is the figure itself
}

func below(v float64) *aim { return &aim{limit: v} }

func times(v float64, peer string) *aim { return &aim{limit: v, peer: peer} }

// and is what the row's aim is, with another one.
func (r *row) and(a *aim) { r.aims = append(r.aims, *a) }

// unit formats a figure.
type unit struct {
	name   string
	format string
}

var (
	seconds  = unit{"s", "%.2f"}
	millis   = unit{"ms", "%.1f"}
	micros   = unit{"µs", "%.0f"}
	tenths   = unit{"µs", "%.1f"}
	kilo     = unit{"kB", "%.1f"}
	mega     = unit{"MB", "%.1f"}
	percent  = unit{"%", "%.2f"}
	count    = unit{"", "%.0f"}
	perSec   = unit{"/s", "%.0f"}
	megaRate = unit{"MB/s", "%.0f"}
)

func (u unit) of(v float64) string {
	s := fmt.Sprintf(u.format, v)
	if u.name == "" {
		return s
	}
	return s + " " + u.name
}

// add adds a row and returns it; the next one moves it.
func (t *table) add(what string, u unit, better direction, a *aim, of map[string]float64) *row {
	r := row{what: what, unit: u, better: better, of: of}
	if a != nil {
		r.and(a)
	}
	t.rows = append(t.rows, r)
	return &t.rows[len(t.rows)-1]
}

func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// names returns the columns in the order of all peers.
func (t *table) names() []string {
	var used []string
	for _, n := range columnOrder() {
		if slices.ContainsFunc(t.rows, func(r row) bool { _, ok := r.of[n]; return ok }) {
			used = append(used, n)
		}
	}
	return used
}

func columnOrder() []string {
	return []string{ours, ourIni, direct, "tini", "dumb-init", s6, python, nginx, haproxy, queueProxy, reverseProxy, openssh}
}

func (t *table) write(w *bytes.Buffer) {
	fmt.Fprintf(w, "\n## %s\n\n", t.title)
	names := t.names()
	against := slices.Contains(names, t.against) && len(names) > 1
	head := append([]string{"figure"}, names...)
	if against {
		peer, _, _ := strings.Cut(t.against, " ")
		head = append(head, "inpod : "+peer)
	}
	head = append(head, "aim")
	line(w, head)
	line(w, slices.Repeat([]string{"---"}, len(head)))
	for _, r := range t.rows {
		cells := []string{r.what}
		for _, n := range names {
			if v, ok := r.of[n]; ok {
				cells = append(cells, r.unit.of(v))
			} else {
				cells = append(cells, "")
			}
		}
		if against {
			cells = append(cells, r.ratio(t.against))
		}
		line(w, append(cells, r.verdict()))
	}
	if len(t.notes) > 0 {
		fmt.Fprintln(w)
	}
	for _, n := range t.notes {
		fmt.Fprintf(w, "- %s\n", n)
	}
}

func line(w *bytes.Buffer, cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }

// mine is inpod's figure: run with an ini where a command line would do too.
func (r row) mine() (float64, bool) {
	if v, ok := r.of[ours]; ok {
		return v, true
	}
	v, ok := r.of[ourIni]
	return v, ok
}

func (r row) ratio(against string) string {
	mine, ok := r.mine()
	peer, too := r.of[against]
	if !ok || !too || r.unit.of(peer) == r.unit.of(0) { // of next to nothing everything is a multiple
		return ""
	}
	word := "less is better"
	if r.better == higher {
		word = "more is better"
	}
	return fmt.Sprintf("%.2g × (%s)", mine/peer, word)
}

func (r row) verdict() string {
	mine, ok := r.mine()
	if !ok {
		return ""
	}
	var said []string
	for _, a := range r.aims {
		peer, known := r.of[a.peer]
		if a.peer != "" && !known {
			continue // was not measured
		}
		limit, what := a.limit, r.unit.of(a.limit)
		if a.peer != "" {
			limit, what = a.limit*peer, fmt.Sprintf("%g × %s", a.limit, a.peer)
		}
		sign, met := "≤ ", mine <= limit
		if r.better == higher {
			sign, met = "≥ ", mine >= limit
		}
		word := ": **short**"
		if met {
			word = ": met"
		}
		said = append(said, sign+what+word)
	}
	return strings.Join(said, "; ")
}

// report is the whole file.
type report struct {
	short  bool
	commit string
	tables []table
	began  time.Time
	load   string
}

func newReport(ctx context.Context, short bool) *report {
	return &report{short: short, commit: commit(ctx), began: time.Now(), load: loadAverage()}
}

func (r *report) write(to string) error {
	var w bytes.Buffer
	fmt.Fprintf(&w, "# inpod beside the programs it replaces\n\nWritten by `make bench` (`go run ./bench`); `go run ./bench -run 'logs|init' -o -` measures parts, `-short` roughly.\n\n")
	fmt.Fprintf(&w, "- %s, commit %s, took %s\n", r.began.UTC().Format(time.DateOnly), r.commit, time.Since(r.began).Round(time.Second))
	fmt.Fprintf(&w, "- %s\n", machine())
	fmt.Fprintf(&w, "- load average before: %s; after: %s\n", r.load, loadAverage())
	fmt.Fprintf(&w, "- peers: %s\n", strings.Join(versions(), ", "))
	fmt.Fprintf(&w, "- every peer is measured in the same run, in turns; a figure is the median of its repeats\n")
	if r.short {
		fmt.Fprintf(&w, "- with -short: the figures are rough\n")
	}
	for i := range r.tables {
		r.tables[i].write(&w)
	}
	if to == "-" {
		_, err := os.Stdout.Write(w.Bytes())
		return err
	}
	if err := os.WriteFile(to, w.Bytes(), 0o644); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	return nil
}

// machine describes the hardware without naming the host.
func machine() string {
	model := runtime.GOARCH
	data, _ := os.ReadFile("/proc/cpuinfo") // absent: the architecture has to do
	for l := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == "model name" {
			model = strings.TrimSpace(v)
			break
		}
	}
	var info unix.Sysinfo_t
	_ = unix.Sysinfo(&info) // zero is printed
	var uts unix.Utsname
	_ = unix.Uname(&uts)
	return fmt.Sprintf("%d × %s, %.0f GB of memory, Linux %s, %s", runtime.NumCPU(), model,
		float64(info.Totalram)*float64(info.Unit)/1e9, unix.ByteSliceToString(uts.Release[:]), runtime.Version())
}

func loadAverage() string {
	data, _ := os.ReadFile("/proc/loadavg")
	f := strings.Fields(string(data))
	return strings.Join(f[:min(3, len(f))], " ")
}

func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	c := strings.TrimSpace(string(out))
	if dirty, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "-uno").Output(); err == nil && len(dirty) > 0 {
		c += " with changes"
	}
	return c
}

// versions asks Debian what is installed.
func versions() []string {
	var out []string
	for _, p := range []string{"supervisor", "tini", "dumb-init", "s6", "nginx", "haproxy", "wrk", "openssh-server", "rsync"} {
		v, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", p).Output()
		if err != nil {
			v = []byte("version unknown")
		}
		out = append(out, p+" "+string(v))
	}
	return out
}
