package injector

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRedirect sends real connections from one network namespace to another over a veth pair.
func TestRedirect(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("network namespaces with interfaces need root")
	}
	pod, node := podAndNode(t)
	pod.serve(t, 8000, "server")
	pod.serve(t, 15080, "inpod")
	pod.serve(t, 8001, "other")

	rules := []Rule{{8000, 15080}, {15090, 8000}}
	err := Redirect(rules, pod.fd)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPROTONOSUPPORT) {
		t.Skipf("this kernel has no nftables NAT: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := Redirect(rules, pod.fd); err != nil { // the init container runs again when the pod's sandbox does
		t.Fatal(err)
	}
	tests := []struct {
		from *netns
		to   string
		want string
	}{
		{node, "10.99.0.1:8000", "inpod"},
		{node, "[fd00:99::1]:8000", "inpod"},
		{node, "10.99.0.1:15090", "server"}, // probes
		{node, "[fd00:99::1]:15090", "server"},
		{node, "10.99.0.1:8001", "other"},
		{node, "10.99.0.1:15080", "inpod"},
		{pod, "127.0.0.1:8000", "server"}, // inpod itself
		{pod, "10.99.0.1:8000", "server"},
	}
	for _, tt := range tests {
		if got := tt.from.ask(t, tt.to); got != tt.want {
			t.Errorf("from %s to %s: %q, want %q", tt.from.name, tt.to, got, tt.want)
		}
	}
}

func TestRedirectNeedsTheCapability(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root has the capability")
	}
	if err := Redirect([]Rule{{1, 2}}, 0); err == nil || !strings.Contains(err.Error(), "NET_ADMIN") {
		t.Errorf("got %v, want an error that names NET_ADMIN", err)
	}
}

func TestParseRule(t *testing.T) {
	for text, want := range map[string]Rule{"8000:15080": {8000, 15080}, "1:65535": {1, 65535}} {
		if got, err := ParseRule(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "8000", "8000:", ":1", "0:1", "1:65536", "a:b", "1:2:3", "8000:8000"} {
		if got, err := ParseRule(text); err == nil {
			t.Errorf("%q: %v, want an error", text, got)
		}
	}
}

// podAndNode are two namespaces with a cable between them: 10.99.0.1 and 10.99.0.2, fd00:99::1 and fd00:99::2.
func podAndNode(t *testing.T) (pod, node *netns) {
	t.Helper()
	pod, node = newNetns(t, "pod"), newNetns(t, "node")
	ip(t, "link", "add", "vp"+pod.tag, "netns", pod.name, "type", "veth", "peer", "name", "vn"+pod.tag, "netns", node.name)
	for n, addr := range map[*netns]string{pod: "1", node: "2"} {
		dev := map[*netns]string{pod: "vp", node: "vn"}[n] + pod.tag
		ip(t, "-n", n.name, "link", "set", "lo", "up")
		ip(t, "-n", n.name, "addr", "add", "10.99.0."+addr+"/24", "dev", dev)
		ip(t, "-n", n.name, "addr", "add", "fd00:99::"+addr+"/64", "dev", dev, "nodad")
		ip(t, "-n", n.name, "link", "set", dev, "up")
	}
	return pod, node
}

type netns struct {
	name, tag string
	fd        int
}

func newNetns(t *testing.T, role string) *netns {
	t.Helper()
	n := &netns{tag: fmt.Sprint(os.Getpid() % 100000)}
	n.name = "inpod-" + role + n.tag
	ip(t, "netns", "add", n.name)
	t.Cleanup(func() { ip(t, "netns", "del", n.name) })
	f, err := os.Open("/run/netns/" + n.name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	n.fd = int(f.Fd())
	return n
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// in runs f on a thread that is in the namespace. The thread is not given back, so nothing else gets there.
func (n *netns) in(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func (n *netns) serve(t *testing.T, port int, answer string) {
	t.Helper()
	var l net.Listener
	err := n.in(func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf("[::]:%d", port))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, answer)
			c.Close()
		}
	}()
}

func (n *netns) ask(t *testing.T, address string) string {
	t.Helper()
	var text []byte
	err := n.in(func() error {
		c, err := dial(address)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		text, err = io.ReadAll(c)
		return err
	})
	if err != nil {
		t.Errorf("%s: %v", address, err)
	}
	return string(text)
}

// dial waits for the route: the kernel makes that of IPv6 when it has noticed, in the background, that the cable is plugged in.
func dial(address string) (net.Conn, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		c, err := net.DialTimeout("tcp", address, time.Minute)
		if err == nil || time.Now().After(deadline) || !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH) {
			return c, err
		}
	}
}
