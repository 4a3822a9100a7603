//go:build kube

package kube

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Most of the time every test waits for the cluster, so more of them than cores may run at once.
	if f := flag.Lookup("test.parallel"); f != nil && f.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", "4")
	}
	if err := setUp(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e/kube:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// setUp installs the chart as a user would, where it is not installed already.
func setUp() error {
	if os.Getenv("KUBECONFIG") == "" {
		return errors.New("there is no cluster: hack/kube.sh run go test -tags kube ./e2e/kube")
	}
	if _, err := run("", "kubectl", "get", "--raw", "/readyz"); err != nil {
		return err
	}
	return install("../../charts/inpod")
}

// install installs or upgrades the release inpod from a chart, and waits until its webhook is served.
func install(chart string, flags ...string) error {
	out, err := run("", "helm", append([]string{
		"upgrade", "inpod", chart, "--install", "--namespace", "inpod", "--create-namespace", "--wait", "--timeout", "3m",
		"--set", "image.tag=e2e,injector.image.tag=e2e", "--set", "injector.lookup.localRegistries=true",
	}, flags...)...)
	if err != nil {
		pods, _ := run("", "kubectl", "get", "pods,events", "-n", "inpod", "-o", "wide")
		return fmt.Errorf("%w\n%s\n%s", err, out, pods)
	}
	return answers()
}

// answers waits until the API server reaches the webhook: kube-proxy hears of ready pods a moment after helm does.
func answers() error {
	const pod = `{apiVersion: v1, kind: Pod, metadata: {name: is-it-there, labels: {inpod.dev/inject: wrap}},
		spec: {containers: [{name: main, image: main, command: [main]}]}}`
	var err error
	for range 100 {
		if _, err = run(pod, "kubectl", "apply", "--dry-run=server", "-f", "-"); err == nil {
			return nil
		}
		<-time.After(300 * time.Millisecond)
	}
	return err
}

// run runs a command and returns its standard output; the error has the standard error.
func run(stdin, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(out), &failure{argv: append([]string{filepath.Base(name)}, args...), code: exit.ExitCode(), said: string(exit.Stderr)}
	}
	return string(out), err
}

// report tells figures: in the test's log, and in the file $KUBE_REPORT, which make e2e-kube shows at its end.
func report(t *testing.T, text string) {
	t.Helper()
	t.Log(text)
	if path := os.Getenv("KUBE_REPORT"); path != "" {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fmt.Fprintf(f, "%s\n%s\n", t.Name(), text)
	}
}

// failure is a command that ended with another exit code than 0.
type failure struct {
	argv []string
	code int
	said string
}

func (f *failure) Error() string {
	return fmt.Sprintf("%s: exit code %d: %s", strings.Join(f.argv, " "), f.code, strings.TrimSpace(f.said))
}
