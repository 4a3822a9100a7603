package agent

import (
	"log/slog"
	"os"
	"slices"
	"testing"

	"github.com/inpod/inpod/internal/proc"
)

// A profile may set PATH to what has none of the container's own programs, or unset it, and change what a script has as its
// arguments: what it exports is taken over all the same.
func TestSourcedWithAnotherPath(t *testing.T) {
	reaper, err := proc.New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reaper.Close() })
	path := "PATH=" + os.Getenv("PATH")
	for text, want := range map[string][]string{
		"export PATH=/opt/conda/bin A=1\n": {"A=1", path + ":/opt/conda/bin"},
		"unset PATH; export A=2\n":         {"A=2", path},
		"set -- x y; export A=3\n":         {"A=3", path},
	} {
		a := &agent{reaper: reaper, opts: Options{Env: []string{path}}}
		file := t.TempDir() + "/profile"
		write(t, file, text)
		env, err := a.sourced(file)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		for _, kv := range want {
			if !slices.Contains(env, kv) {
				t.Errorf("%q: got %q, want %q among them", text, env, kv)
			}
		}
	}
}

// What happens once in the agent's life is not done again by a reload, and that is said.
func TestWhatAReloadDoesNotDoAgain(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/s.conf", "[supervisord]\n[program:p]\ncommand=sleep 1000\nstartsecs=0\n")
	write(t, dir+"/inpod.yaml", "hooks: [{name: a, command: 'true'}]\n")
	a := launch(t, dir, nil).started()
	a.stdout.wait(t, `"running"`, `"program":"p"`)
	write(t, dir+"/inpod.yaml", "hooks: [{name: a, command: 'false'}]\nseed: [{from: /nosuch, to: "+dir+"/to}]\nsupervisor: {source: [/nosuch]}\n")
	a.stdout.wait(t, "settings have changed that take effect when the agent is started again", `"keys":"supervisor.source seed hooks"`)
}
