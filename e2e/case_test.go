package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// scenario is one testdata/NAME.ini: the file itself and the steps in its ";#" comments.
type scenario struct {
	name  string
	text  string // the ini as written
	extra string // testdata/NAME.d, copied beside it; may not exist
	steps []step
	env   []string
	watch bool // sample the states, and append the listener that records every state event
	rpc   bool // there is an HTTP server to talk to
	conf  string
}

type step struct {
	line int
	verb string
	rest string // what follows the verb, trimmed
}

func (s step) String() string { return strings.TrimSpace(s.verb + " " + s.rest) }

// args decodes the JSON array at the end of an rpc step.
func (s step) args() (method string, args []any, err error) {
	method, list, found := strings.Cut(s.rest, " ")
	if !found {
		return method, nil, nil
	}
	if err := json.Unmarshal([]byte(list), &args); err != nil {
		return "", nil, fmt.Errorf("cannot read the arguments of step %q: %w", s, err)
	}
	return method, args, nil
}

// watchSection is appended to a case: every state event of every program, in order, and what closes the row (caughtUp).
const watchSection = `
[eventlistener:zzwatch]
command=%%(ENV_PROG)s listen %%(here)s/watch.log
events=PROCESS_STATE,%s
buffer_size=2000
stdout_logfile=NONE
stderr_logfile=NONE
`

func loadScenario(path string) (*scenario, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	sc := &scenario{
		name: strings.TrimSuffix(filepath.Base(path), ".ini"), text: string(data),
		extra: strings.TrimSuffix(path, ".ini") + ".d", watch: true, rpc: true, conf: "supervisord.conf",
	}
	for i, line := range strings.Split(sc.text, "\n") {
		body, ok := strings.CutPrefix(strings.TrimSpace(line), ";#")
		if !ok {
			continue
		}
		verb, rest, _ := strings.Cut(strings.TrimSpace(body), " ")
		rest = strings.TrimSpace(rest)
		switch verb {
		case "", "what": // a sentence about the case
		case "nowatch":
			sc.watch = false
		case "norpc":
			sc.rpc, sc.watch = false, false
		case "env":
			sc.env = append(sc.env, rest)
		default:
			sc.steps = append(sc.steps, step{line: i + 1, verb: verb, rest: rest})
		}
	}
	if !strings.Contains(sc.text, "[") {
		sc.watch = false // the listener's section would make another case of a file without sections
	}
	if len(sc.steps) == 0 && sc.rpc {
		sc.steps = []step{{verb: "settle"}}
	}
	return sc, nil
}

// lastEvent is the kind of event by which caughtUp sees that the watch log is whole. A remote one comes at once, but would also
// be one for the case's own listeners, where those want it.
func (sc *scenario) lastEvent() string {
	if strings.Contains(sc.text, remoteEvent) {
		return "TICK_5"
	}
	return remoteEvent
}

const remoteEvent = "REMOTE_COMMUNICATION"

// install writes the case into dir.
func (sc *scenario) install(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "out"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "out"), 0o777); err != nil { // other users write here
		t.Fatal(err)
	}
	if _, err := os.Stat(sc.extra); err == nil {
		if err := os.CopyFS(dir, os.DirFS(sc.extra)); err != nil {
			t.Fatal(err)
		}
	}
	text := sc.text
	if sc.watch {
		text += fmt.Sprintf(watchSection, sc.lastEvent())
	}
	if err := os.WriteFile(filepath.Join(dir, sc.conf), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
