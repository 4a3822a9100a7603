package listen

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

func open(t *testing.T, addr string) (ln net.Listener, fd int, port string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	Descriptor(ln, func(n int) { fd = n })
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	return ln, fd, port
}

func TestInstead(t *testing.T) {
	for _, tt := range []struct{ name, before, after string }{
		{"from one address to all", "127.0.0.1:", ":"},
		{"from all addresses to one", ":", "127.0.0.1:"},
		{"the same in other words", ":", "0.0.0.0:"},
		{"of the other family", "127.0.0.1:", "[::]:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ours, _, port := open(t, tt.before+"0")
			next, err := Instead(ours, tt.after+port)
			for tries := 1; errors.Is(err, syscall.EADDRINUSE) && tries < 5; tries++ { // somebody has it at another address
				ours, _, port = open(t, tt.before+"0")
				next, err = Instead(ours, tt.after+port)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer next.Close()
			ours.Close()
			c, err := net.Dial("tcp", "127.0.0.1:"+port)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got, err := next.Accept()
			if err != nil {
				t.Fatal(err)
			}
			got.Close()
			// Nobody else gets the port.
			if _, err := TCP(tt.after + port); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("a second one on the port: %v, want EADDRINUSE", err)
			}
		})
	}
}

func TestTCPOfSomebodyElse(t *testing.T) {
	_, _, port := open(t, "127.0.0.1:0")
	_, mine, _ := open(t, "127.0.0.1:0")
	if ln, err := TCP(":"+port, mine); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v, %v, want EADDRINUSE", ln, err)
	}
}

func TestInsteadOfNothing(t *testing.T) {
	closed, _, _ := open(t, "127.0.0.1:0")
	closed.Close()
	for _, old := range []net.Listener{nil, closed} {
		ln, err := Instead(old, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
	}
}
