package archtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("cannot find go.mod above the test")
		}
		dir = up
	}
}

func TestArchitecture(t *testing.T) {
	files, err := load(os.DirFS(moduleRoot(t)))
	if err != nil {
		t.Fatal(err)
	}
	faults, remarks := check(files)
	for _, f := range faults {
		t.Error(f)
	}
	for _, r := range remarks {
		t.Log(r)
	}
}

func check(files []source) (faults, remarks []string) {
	faults, remarks = sizes(files)
	for _, rule := range []func([]source) []string{edges, owners, spawns, state} {
		faults = append(faults, rule(files)...)
	}
	return faults, remarks
}

// TestTheRulesBite gives the rules trees that break them, one rule each.
func TestTheRulesBite(t *testing.T) {
	own := func(dir string) string { return `import _ "` + module + "/" + dir + `"` }
	tests := []struct {
		name, file, code string
		want             string // part of the only fault; "" = none
	}{
		{"an edge in the table", "agent/x.go", own("config"), ""},
		{"an edge upwards", "config/x.go", own("agent"), "config may not import agent"},
		{"an edge between siblings", "supervisor/x.go", own("proxy"), "supervisor may not import proxy"},
		{"a leaf that imports", "supervisor/ini/x.go", own("supervisor"), "supervisor/ini may not import supervisor"},
		{"a package nobody decided on", "util/x.go", "", "package util is not in the import table"},
		{"a black box that looks inside", "e2e/lab/x_test.go", own("internal/proc"), "may not import internal/proc"},
		{"a black box that uses itself", "e2e/x_test.go", own("e2e/lab"), ""},
		{"a test may look further", "supervisor/x_test.go", own("proxy"), ""},
		{"os/exec", "agent/x.go", `import "os/exec"; func f() { exec.Command("x") }`, "only internal/proc may import os/exec"},
		{"os/exec renamed", "agent/x.go", `import e "os/exec"; func f() { e.Command("x") }`, "only internal/proc may import os/exec"},
		{"os/exec in a test", "agent/x_test.go", `import "os/exec"; func f() { exec.Command("x") }`, ""},
		{"os/exec in a black box", "bench/x.go", `import "os/exec"; func f() { exec.Command("x") }`, ""},
		{"wait4", "agent/x.go", `import "syscall"; func f() { syscall.Wait4(-1, nil, 0, nil) }`, "may use syscall.Wait4"},
		{"wait4 in proc", "internal/proc/x.go", `import "syscall"; func f() { syscall.Wait4(-1, nil, 0, nil) }`, ""},
		{"ForkExec", "supervisor/x.go", `import s "syscall"; var f = s.ForkExec`, "may use syscall.ForkExec"},
		{"os.StartProcess", "supervisor/x.go", `import "os"; func f() { os.StartProcess("", nil, nil) }`, "may use os.StartProcess"},
		{"kill", "supervisor/x.go", `import "golang.org/x/sys/unix"; func f() { unix.Kill(1, 9) }`, "may use golang.org/x/sys/unix.Kill"},
		{"Pdeathsig", "agent/x.go", `import "syscall"; func f() any { return syscall.SysProcAttr{Pdeathsig: 9} }`, "nobody may set Pdeathsig"},
		{"fasthttp elsewhere", "agent/x.go", `import _ "github.com/valyala/fasthttp"`, "only proxy may import"},
		{"fasthttp at home", "proxy/x.go", `import _ "github.com/valyala/fasthttp/fasthttputil"`, ""},
		{"kubernetes", "supervisor/x.go", `import _ "k8s.io/api/core/v1"`, "only injector, cmd/inpod-injector, hack/kube may import"},
		{"cobra below the command", "agent/x.go", `import _ "github.com/spf13/cobra"`, "only cmd may import"},
		{"init", "agent/x.go", `func init() {}`, "no init functions"},
		{"a method called init", "agent/x.go", `type t int; func (t) init() {}`, ""},
		{"a long file", "agent/x.go", strings.Repeat("\n", maxFile+1), fmt.Sprintf("at most %d", maxFile)},
		{"a long test file", "agent/x_test.go", strings.Repeat("\n", maxFile+1), fmt.Sprintf("at most %d", maxFile)},
		{"a long function", "agent/x.go", "func f() {" + strings.Repeat("\n", maxFunc) + "}", fmt.Sprintf("f has %d lines", maxFunc+1)},
		{"a package variable that changes", "agent/x.go", `var n int; func f() { n++ }`, "package variable n changes"},
		{"a package map that changes", "agent/x.go", `var m = map[int]int{}; func f() { m[1] = 2 }`, "package variable m changes"},
		{"a package mutex", "agent/x.go", `import "sync"; var mu sync.Mutex`, "package variable mu changes"},
		{"a package pointer", "agent/x.go", `import "sync/atomic"; var p atomic.Pointer[int]`, "package variable p changes"},
		{"a constant table", "agent/x.go", `var m = map[int]int{}; func f() int { m := map[int]int{}; m[1] = 2; return m[1] }`, ""},
		{"a reasoned exception", "internal/proc/x.go", `import "sync/atomic"; var running atomic.Bool`, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tree := fstest.MapFS{test.file: {Data: []byte("package x; " + test.code + "\n")}}
			files, err := load(tree)
			if err != nil {
				t.Fatal(err)
			}
			faults, _ := check(files)
			if test.want == "" && len(faults) > 0 {
				t.Errorf("got %q, want no fault", faults)
			}
			if test.want != "" && (len(faults) != 1 || !strings.Contains(faults[0], test.want)) {
				t.Errorf("got %q, want one fault with %q", faults, test.want)
			}
		})
	}
}

// A binary must not hold what it bans, also when the import is some packages away and its importer may have it.
func TestBinariesAreHeldAsAWhole(t *testing.T) {
	files, err := load(fstest.MapFS{
		"cmd/inpod-injector/main.go": {Data: []byte(`package main; import _ "` + module + `/agent"`)},
		"agent/a.go":                 {Data: []byte(`package agent; import _ "` + module + `/proxy"`)},
		"proxy/p.go":                 {Data: []byte(`package proxy; import _ "github.com/valyala/fasthttp"`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := owners(files)
	want := "cmd/inpod-injector must not hold github.com/valyala/fasthttp, which proxy imports"
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
