//go:build images

package images

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// lab is what all tests share; TestMain sets it once, before any of them runs.
var lab struct {
	root   string // of the repository
	docker string // the client
	dir    string // for files that containers see
	key    string // the file of the private key that logs in, and next to it .pub

	mu     sync.Mutex
	images map[string]*built
}

type built struct {
	once   sync.Once
	ref    string
	err    error
	absent string // why its parts cannot be had here
}

func TestMain(m *testing.M) {
	flag.Parse()
	// Most of the time every test waits for something to start or to pass, so more of them than cores may run at once.
	if f := flag.Lookup("test.parallel"); f != nil && f.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", "4")
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	stop, err := setUp()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e/images:", err)
		stop()
		return 1
	}
	code := m.Run()
	stop()
	return code
}

// setUp finds a dockerd or starts one. What it returns undoes it, also after an error.
func setUp() (stop func(), err error) {
	stop = func() {}
	if os.Getuid() != 0 {
		return stop, errors.New("only root can do this: containers are called by their own addresses")
	}
	lab.images = map[string]*built{}
	if lab.root, err = filepath.Abs("../.."); err != nil {
		return stop, err
	}
	for _, tool := range []string{"docker", "dockerd", "ssh", "ssh-keygen", "sshpass", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			return stop, fmt.Errorf("%w; hack/install.sh images installs it", err)
		}
	}
	lab.docker = os.Getenv("DOCKER")
	if lab.docker == "" {
		lab.docker = "docker"
		if _, err := os.Stat("/usr/bin/docker"); err == nil {
			lab.docker = "/usr/bin/docker" // see hack/dockerd.sh
		}
	}
	if lab.dir, err = os.MkdirTemp("", "e2e-images-"); err != nil {
		return stop, err
	}
	stop = func() { os.RemoveAll(lab.dir) }
	if err := os.Chmod(lab.dir, 0o755); err != nil {
		return stop, err
	}
	lab.key = filepath.Join(lab.dir, "id_ed25519")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", lab.key).CombinedOutput(); err != nil {
		return stop, fmt.Errorf("cannot make a key: %w: %s", err, out)
	}

	var host, said bytes.Buffer
	cmd := exec.Command(filepath.Join(lab.root, "hack/dockerd.sh"), "start")
	cmd.Stdout, cmd.Stderr = &host, &said
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		stop = func() {
			removeLeft()
			if out, err := exec.Command(filepath.Join(lab.root, "hack/dockerd.sh"), "stop").CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "e2e/images: %v: %s\n", err, out)
			}
			os.RemoveAll(lab.dir)
		}
	case errors.As(err, &exit) && exit.ExitCode() == 3: // somebody else's, and stays
		stop = func() { removeLeft(); os.RemoveAll(lab.dir) }
	default:
		return stop, fmt.Errorf("cannot start dockerd: %w: %s", err, said.String())
	}
	return stop, os.Setenv("DOCKER_HOST", strings.TrimSpace(host.String()))
}

// mark is the label of containers, networks and volumes of this run.
func mark() string { return fmt.Sprintf("inpod-e2e=%d", os.Getpid()) }

// removeLeft removes what a test that was cut short left.
func removeLeft() {
	for _, kind := range []string{"container", "network", "volume"} {
		list := []string{kind, "ls", "-q", "--filter", "label=" + mark()}
		remove := []string{kind, "rm", "-f"}
		if kind == "container" {
			list, remove = append(list, "-a"), append(remove, "-v")
		}
		if kind == "network" {
			remove = remove[:2]
		}
		out, err := exec.Command(lab.docker, list...).Output()
		if ids := strings.Fields(string(out)); err == nil && len(ids) > 0 {
			_ = exec.Command(lab.docker, append(remove, ids...)...).Run() // the report is about the tests
		}
	}
}

// build makes the image of images/NAME, once for all tests, and returns its name with the tag. The test is skipped where
// the image is made of parts that cannot be reached: they are of no registry of packages.
func build(t *testing.T, name string) string {
	t.Helper()
	lab.mu.Lock()
	b := lab.images[name]
	if b == nil {
		b = &built{}
		lab.images[name] = b
	}
	lab.mu.Unlock()
	b.once.Do(func() {
		// One build at a time: they are heavy, and share their lower layers.
		buildLock.Lock()
		defer buildLock.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
		defer cancel()
		began := time.Now()
		cmd := exec.CommandContext(ctx, filepath.Join(lab.root, "hack/images.sh"), name)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 3 {
			b.absent = strings.TrimSpace(said.String())
			return
		}
		lines := strings.Fields(string(out))
		if err != nil || len(lines) == 0 {
			b.err = fmt.Errorf("cannot build %q: %w\n%s", name, err, said.String())
			return
		}
		b.ref = lines[len(lines)-1]
		fmt.Fprintf(os.Stderr, "built %s in %s\n", b.ref, time.Since(began).Round(time.Second))
	})
	if b.absent != "" {
		t.Skip(b.absent)
	}
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.ref
}

var buildLock sync.Mutex
