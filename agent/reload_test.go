package agent

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kubelet writes files as kubelet does for a ConfigMap (pkg/volume/util/atomic_writer.go): into a new directory with
// a time in its name, to which the link ..data is swapped by a rename; files are links through ..data.
func kubelet(t *testing.T, dir string, n int, files map[string]string) {
	t.Helper()
	data := fmt.Sprintf("..2026_01_01_00_00_%02d.1", n)
	for name, text := range files {
		write(t, filepath.Join(dir, data, name), text)
	}
	old, _ := os.Readlink(filepath.Join(dir, "..data"))
	tmp := filepath.Join(dir, "..data_tmp")
	if err := os.Symlink(data, tmp); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	if old != "" {
		if err := os.RemoveAll(filepath.Join(dir, old)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReloadOnKubernetesSwap(t *testing.T) {
	dir := t.TempDir()
	kubelet(t, dir, 1, map[string]string{"inpod.yaml": "drain: {delay: 1ms}\n"})
	a := launch(t, dir, nil).started()
	a.stdout.wait(t, `"to":"ready"`)
	config := func() string { _, body := a.do(false, "GET", "/api/v1/config"); return body }
	for i := 2; i < 5; i++ {
		kubelet(t, dir, i, map[string]string{"inpod.yaml": fmt.Sprintf("drain: {delay: %dms}\n", i)})
		poll(t, "the new delay", func() bool { return strings.Contains(config(), fmt.Sprintf(`"delay":"%dms"`, i)) })
	}

	kubelet(t, dir, 5, map[string]string{"inpod.yaml": "drain: {dely: 9ms}\n"})
	a.stdout.wait(t, "the old one stays in force", "drain.dely")
	if got := config(); !strings.Contains(got, `"delay":"4ms"`) {
		t.Errorf("after a bad file: %s, want the delay of before", got)
	}
	resp, body := a.do(false, "GET", "/readyz?verbose")
	if resp.StatusCode != 200 || !strings.Contains(body, "[+]config ok, warning: the last reload failed") || !strings.Contains(body, "drain.dely") {
		t.Errorf("/readyz?verbose: got %d\n%s\nwant 200 and a warning", resp.StatusCode, body)
	}
	if _, body := a.do(false, "GET", "/api/v1/phase"); !strings.Contains(body, `"last_reload_error":"`) {
		t.Errorf("phase: got %s, want last_reload_error", body)
	}
	_, metrics := a.do(false, "GET", "/metrics")
	for _, want := range []string{`inpod_config_reloads_total{result="ok"} 3`, `inpod_config_reloads_total{result="failed"} 1`, "inpod_config_last_reload_successful 0"} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}

	kubelet(t, dir, 6, map[string]string{"inpod.yaml": "drain: {delay: 6ms}\n"})
	poll(t, "the mended file", func() bool { return strings.Contains(config(), `"delay":"6ms"`) })
}

func TestSIGHUPReloadsAndStopsNothing(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/s.conf", "[supervisord]\n[program:p]\ncommand=sleep 1000\nstartsecs=0\n")
	a := launch(t, dir, nil).started()
	a.stdout.wait(t, `"running"`, `"program":"p"`)
	_, before := a.do(false, "GET", "/api/v1/programs/p")
	a.signal(syscall.SIGHUP)
	a.stdout.wait(t, "reading the configuration again", "SIGHUP")
	poll(t, "the reload", func() bool {
		_, body := a.do(false, "GET", "/metrics")
		return strings.Contains(body, `inpod_config_reloads_total{result="ok"} 1`)
	})
	_, after := a.do(false, "GET", "/api/v1/programs/p")
	pid := func(s string) string { return strings.Split(strings.SplitAfter(s, `"pid":`)[1], ",")[0] }
	if pid(before) != pid(after) {
		t.Errorf("the program has another pid: %s, before %s", after, before)
	}
}

func TestAutoUpdate(t *testing.T) {
	for _, auto := range []bool{true, false} {
		t.Run(fmt.Sprint(auto), func(t *testing.T) {
			dir := t.TempDir()
			program := func(name, seconds string) {
				write(t, dir+"/conf.d/"+name+".ini", "[program:"+name+"]\ncommand=sleep "+seconds+"\nstartsecs=0\n")
			}
			program("stays", "1000")
			program("changes", "1000")
			program("goes", "1000")
			a := launch(t, dir, nil, fmt.Sprintf("INPOD_SUPERVISOR_AUTO_UPDATE=%v", auto)).started()
			for _, name := range []string{"stays", "changes", "goes"} {
				a.stdout.wait(t, `"running"`, `"program":"`+name+`"`)
			}
			pids := func() map[string]int {
				m := map[string]int{}
				_, body := a.do(false, "GET", "/api/v1/programs")
				for _, name := range []string{"stays", "changes", "goes", "comes"} {
					var pid int
					if _, rest, ok := strings.Cut(body, `{"name":"`+name+`"`); ok {
						_, rest, _ = strings.Cut(rest, `"pid":`)
						fmt.Sscan(rest, &pid)
					}
					m[name] = pid
				}
				return m
			}
			before := pids()
			program("changes", "1001")
			program("comes", "1000")
			if err := os.Remove(dir + "/conf.d/goes.ini"); err != nil {
				t.Fatal(err)
			}
			if !auto {
				a.stdout.wait(t, "inpod ctl update makes them so", `"added":"comes"`, `"removed":"goes"`, `"changed":"changes"`)
				if after := pids(); fmt.Sprint(after) != fmt.Sprint(before) {
					t.Errorf("programs: got %v, want %v as before", after, before)
				}
				return
			}
			poll(t, "the update", func() bool {
				now := pids()
				return now["comes"] != 0 && now["goes"] == 0 && now["changes"] != 0 && now["changes"] != before["changes"]
			})
			if now := pids(); now["stays"] != before["stays"] {
				t.Errorf("stays: pid %d, want %d as before", now["stays"], before["stays"])
			}
		})
	}
}

func TestRestartKeepsTheProcess(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/s.conf", "[supervisord]\n[program:old]\ncommand=sleep 1000\nstartsecs=0\n")
	a := launch(t, dir, nil).started()
	a.stdout.wait(t, `"running"`, `"program":"old"`)
	call := func(method string) string {
		return a.rpc("<methodCall><methodName>supervisor." + method + "</methodName><params/></methodCall>")
	}

	write(t, dir+"/s.conf", "[supervisord]\n[program:new]\nstartsecs=soon\n")
	a.stdout.wait(t, "the old one stays in force")
	if got := call("restart"); !strings.Contains(got, "CANT_REREAD: "+dir+"/s.conf:2: ") || !strings.Contains(got, "startsecs") {
		t.Errorf("a restart with a bad file: %s", got)
	}
	if got := call("getProcessInfo"); strings.Contains(got, "SHUTDOWN") {
		t.Errorf("a restart with a bad file: %s", got)
	}
	if _, body := a.do(false, "GET", "/api/v1/programs"); !strings.Contains(body, `"name":"old"`) || !strings.Contains(body, "RUNNING") {
		t.Errorf("a restart with a bad file: got %s, want that old runs on", body)
	}

	write(t, dir+"/s.conf", "[supervisord]\n[program:new]\ncommand=sleep 1000\nstartsecs=0\n")
	call("restart")
	a.stdout.wait(t, `"running"`, `"program":"new"`)
	// The new programs take the place of the old ones when all of them are known, which may be after the first runs.
	poll(t, "the new programs only", func() bool {
		_, body := a.do(false, "GET", "/api/v1/programs")
		return strings.Contains(body, `"new"`) && !strings.Contains(body, `"old"`)
	})
	if got, want := call("getPID"), fmt.Sprintf("<int>%d</int>", a.cmd.Process.Pid); !strings.Contains(got, want) {
		t.Errorf("getPID: got %s, want %s", got, want)
	}
	call("shutdown")
	if got := a.code(); got != 0 {
		t.Errorf("exit code %d after shutdown, want 0", got)
	}
}

// watchFor makes a watch of files and globs that tells once.
func watchFor(t *testing.T, files, globs []string) *watch {
	t.Helper()
	w := newWatch(slog.New(slog.DiscardHandler))
	t.Cleanup(w.close)
	w.follow(files, globs, fingerprint(files, globs))
	return w
}

func TestWatch(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, dir string)
	}{
		{"written in place", func(t *testing.T, dir string) { write(t, dir+"/a.yaml", "new") }},
		{"replaced by a rename", func(t *testing.T, dir string) {
			write(t, dir+"/tmp", "new")
			if err := os.Rename(dir+"/tmp", dir+"/a.yaml"); err != nil {
				t.Fatal(err)
			}
		}},
		{"removed", func(t *testing.T, dir string) {
			if err := os.Remove(dir + "/a.yaml"); err != nil {
				t.Fatal(err)
			}
		}},
		{"a file that matches a glob", func(t *testing.T, dir string) { write(t, dir+"/conf.d/x.ini", "new") }},
		{"a directory on the way to a glob", func(t *testing.T, dir string) {
			if err := os.Mkdir(dir+"/later", 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, dir+"/later/x.ini", "new")
		}},
		{"the target of a link", func(t *testing.T, dir string) { write(t, dir+"/elsewhere/real.yaml", "new") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir+"/a.yaml", "old")
			write(t, dir+"/conf.d/y.ini", "old")
			write(t, dir+"/elsewhere/real.yaml", "old")
			if err := os.Symlink(dir+"/elsewhere/real.yaml", dir+"/link.yaml"); err != nil {
				t.Fatal(err)
			}
			w := watchFor(t, []string{dir + "/a.yaml", dir + "/link.yaml"}, []string{dir + "/conf.d/*.ini", dir + "/later/*.ini"})
			tt.change(t, dir)
			for told := false; !told; {
				select {
				case <-w.changed():
					told = w.differs()
				case <-time.After(patience):
					t.Fatal("no change was seen")
				}
			}
		})
	}
}

// Without inotify (its instances are counted for all containers of a node together) files are looked at.
func TestWatchWithoutInotify(t *testing.T) {
	file := t.TempDir() + "/a.yaml"
	write(t, file, "old")
	w := &watch{log: slog.New(slog.DiscardHandler), out: make(chan struct{}), done: make(chan struct{})}
	w.startPolling(time.Millisecond)
	defer w.close()
	w.follow([]string{file}, nil, fingerprint([]string{file}, nil))
	for range 3 {
		<-w.changed()
		if w.differs() {
			t.Error("nothing has changed, but differs says yes")
		}
	}
	write(t, file, "new")
	for told := false; !told; {
		select {
		case <-w.changed():
			told = w.differs()
		case <-time.After(patience):
			t.Fatal("no change was seen")
		}
	}
}

func TestWatchTellsOnceOfManyWrites(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.yaml", "0")
	w := watchFor(t, []string{dir + "/a.yaml"}, nil)
	for i := range 50 {
		write(t, dir+"/a.yaml", fmt.Sprint(i))
		write(t, dir+"/beside.log", fmt.Sprint(i))
	}
	<-w.changed()
	if !w.differs() {
		t.Error("the text is another, but differs says no")
	}
	write(t, dir+"/a.yaml", "49") // the same text
	<-w.changed()
	if w.differs() {
		t.Error("the text is the same, but differs says yes")
	}
}
