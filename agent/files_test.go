package agent

import (
	"log/slog"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/inpod/inpod/config"
)

// A reload during the start writes no files: the step does, after the seed, and takes what the settings say by then.
func TestFilesWaitForTheSeed(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/seed/readme", "seed")
	write(t, dir+"/one", "---a\none\n")
	write(t, dir+"/two", "---a\ntwo\n---b\ntwo\n")
	seeds := []config.Seed{{From: dir + "/seed", To: dir + "/to", Required: true}}
	old := &config.Config{Seed: seeds, Files: []config.Files{{From: dir + "/one", To: dir + "/to", Mode: "0644"}}}
	for name, begun := range map[string]*config.Config{"other files": old, "no files before": {Seed: seeds}} {
		t.Run(name, func(t *testing.T) {
			a := &agent{log: slog.New(slog.DiscardHandler)}
			a.settings.Store(begun)
			a.prep = a.newPreparation(&loaded{cfg: begun})
			next := &config.Config{Files: []config.Files{{From: dir + "/two", To: dir + "/to", Mode: "0644"}}}
			a.settings.Store(next)
			a.rewriteFiles(next)
			if _, err := os.Stat(dir + "/to"); err == nil {
				t.Error("files were written before the seed")
			}
			a.prep.start()
			<-a.prep.done
			if a.prep.err != nil {
				t.Fatal(a.prep.err)
			}
			if got := read(t, dir+"/to/readme") + read(t, dir+"/to/a") + read(t, dir+"/to/b"); got != "seedtwo\ntwo\n" {
				t.Errorf("got %q", got)
			}
			if items := a.prep.items(); len(items) != 2 || items[1].State != itemDone || items[1].Detail != "2 files written" {
				t.Errorf("the steps: %+v", items)
			}
			a.rewriteFiles(old)
			if got := read(t, dir+"/to/a"); got != "one\n" {
				t.Errorf("after the start: %q", got)
			}
			if err := os.RemoveAll(dir + "/to"); err != nil {
				t.Fatal(err)
			}
		})
	}
	// Without anything to wait for there is no step.
	a := &agent{log: slog.New(slog.DiscardHandler)}
	a.prep = a.newPreparation(&loaded{cfg: &config.Config{}})
	if len(a.prep.steps) != 0 || !a.prep.ok() || !a.prep.files.open {
		t.Errorf("an empty start has %d steps", len(a.prep.steps))
	}
}

// A FIFO where a file is meant is an error, and no wait for somebody who writes to it.
func TestAFIFOIsNotWaitedFor(t *testing.T) {
	fifo := t.TempDir() + "/fifo"
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	a := &agent{log: slog.New(slog.DiscardHandler)}
	done := make(chan error, 1)
	go func() {
		fingerprint([]string{fifo}, []string{fifo})
		_, err := a.writeFiles(config.Files{From: fifo, To: t.TempDir(), Mode: "0644"})
		done <- err
	}()
	select {
	case err := <-done:
		if want := "cannot read the files in " + fifo + ": it is no file"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	case <-time.After(patience):
		t.Fatal("it is waited for")
	}
}

// A restart of everything takes new texts too: it may be faster than the watch of files, which has seen them with it.
func TestARestartWritesFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/text", "---a\nold\n")
	write(t, dir+"/inpod.yaml", "files: [{from: "+dir+"/text, to: "+dir+"/to}]\n")
	write(t, dir+"/s.conf", "[supervisord]\n[program:p]\ncommand=sleep 1000\nstartsecs=0\n")
	a := launch(t, dir, nil).started()
	a.stdout.wait(t, `"running"`, `"program":"p"`)
	write(t, dir+"/text", "---a\nnew\n")
	a.rpc("<methodCall><methodName>supervisor.restart</methodName><params/></methodCall>")
	poll(t, "the new files", func() bool { return read(t, dir+"/to/a") == "new\n" })
}
