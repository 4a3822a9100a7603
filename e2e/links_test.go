package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

// The way that tool images start and stop their supervisor: through links, with an include file that base images do not
// have, a program that is nothing but command=, and a shutdown that either asks or looks for the name in ps.
func TestLinksAsImagesCallThem(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]string{
		"asked":  `"$DIR/usr/bin/shutdown"`,
		"killed": `ps -eo pid,args | grep "$DIR/bin/supervisord" | grep -v grep | awk '{print $1}' | xargs kill`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := prepare(t, setup{files: map[string]string{
				"init/supervisor/supervisor.ini": "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\n" +
					"[program:tool]\ncommand=/bin/sleep 1000\n[include]\nfiles=%(here)s/../../etc/supervisord/supervisor-other.ini\n",
			}})
			for _, link := range []string{"bin/supervisord", "bin/supervisorctl", "usr/bin/shutdown"} {
				if err := os.MkdirAll(filepath.Dir(a.path(link)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(a.bin, a.path(link)); err != nil {
					t.Fatal(err)
				}
			}
			d, err := lab.Start(a.dir, a.env, a.path("bin/supervisord"), "-c", a.path("init/supervisor/supervisor.ini"))
			if err != nil {
				t.Fatal(err)
			}
			a.d = d
			t.Cleanup(d.Kill)
			a.untilState("tool", "RUNNING")
			run := func(script string) string {
				cmd := exec.Command("/bin/sh", "-c", script)
				cmd.Env, cmd.Dir = a.env, a.dir
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Errorf("%s: %v\n%s\n%s", script, err, out, tailOf(d.Output(), 2000))
				}
				return string(out)
			}
			if out := run(`"$DIR/bin/supervisorctl" -s "unix://$DIR/agent.sock" status`); !strings.Contains(out, "tool                             RUNNING   pid ") {
				t.Errorf("status: %s", out)
			}
			run(stop)
			a.wantExit("exit 0")
		})
	}
}
