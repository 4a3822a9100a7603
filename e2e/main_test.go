package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inpod/inpod/e2e/lab"
)

// Both are set once by TestMain, before any test runs.
var (
	bins lab.Binaries
	// rsaHostKey is the path of a private key, and next to it .pub, that agents get: the race detector makes it slow to find
	// primes, and ssh-keygen, too, needs a third of a second. The ed25519 key is each agent's to make.
	rsaHostKey string
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Most of the time every test waits for seconds to pass, so more of them than cores may run at once.
	if f := flag.Lookup("test.parallel"); f != nil && f.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", "8")
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "e2e-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// Programs that run as another user must reach the binaries.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	bins, err = lab.Build(context.Background(), dir, raceEnabled)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	rsaHostKey = filepath.Join(dir, "ssh_host_rsa_key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", rsaHostKey).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot make a host key: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// shortDir is t.TempDir with a path short enough for a unix socket (108 bytes).
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("E2E_KEEP") != "" {
			t.Logf("kept %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("cannot clean up: %v", err)
		}
	})
	return dir
}

// patience is how long a test waits for what must come. A busy machine may need long; only a failure takes all of it.
const patience = time.Minute

// nextPort is the port to try next; it begins anywhere, as another run of the tests may be going on.
var nextPort atomic.Int64

// freePort finds a TCP port that nobody listens on and that no other test was given. It is below the range from which
// the kernel takes ports for outgoing connections: one of those could have it before the supervisor under test binds it.
func freePort(t *testing.T) int {
	t.Helper()
	const first, count = 10240, 20000
	nextPort.CompareAndSwap(0, 1+rand.Int64N(count))
	for range count {
		port := first + int(nextPort.Add(1)%count)
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			ln.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// baseEnv is the whole environment of a supervisor under test.
func baseEnv(extra ...string) []string {
	home := os.Getenv("HOME")
	return append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + home, "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "TZ=UTC", "PROG=" + bins.Prog,
	}, extra...)
}

// quietEnv keeps one agent apart from others on the same machine: no default port, socket or ini files.
func quietEnv(dir string) []string {
	return []string{
		"INPOD_ADMIN_LISTEN=off", "INPOD_SSH_LISTEN=off", "INPOD_ADMIN_SOCKET=" + dir + "/agent.sock", "INPOD_SUPERVISOR_INCLUDE=[]",
	}
}
