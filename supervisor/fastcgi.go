package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/inpod/inpod/supervisor/ini"
	sys "golang.org/x/sys/unix"
)

// fastcgi is the listening socket that the processes of an [fcgi-program:x] share as their stdin. It exists while
// one of them does.
type fastcgi struct {
	cfg *ini.Group

	mu    sync.Mutex
	users int
	sock  *os.File
}

// take returns the socket and what gives it back, to be called once.
func (f *fastcgi) take() (*os.File, func(), error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.users == 0 {
		sock, err := f.listen()
		if err != nil {
			return nil, nil, fmt.Errorf("cannot create FastCGI socket %s: %w", f.cfg.Socket, err)
		}
		f.sock = sock
	}
	f.users++
	return f.sock, f.give, nil
}

func (f *fastcgi) give() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.users--; f.users == 0 {
		_ = f.sock.Close()
		f.sock = nil
	}
}

func (f *fastcgi) listen() (*os.File, error) {
	path, isUnix := strings.CutPrefix(f.cfg.Socket, "unix://")
	addr, isTCP := strings.CutPrefix(f.cfg.Socket, "tcp://")
	if !isUnix && !isTCP {
		return nil, errors.New("it is neither unix:// nor tcp://")
	}
	network := "tcp"
	if isUnix {
		network, addr = "unix", path
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), network, addr)
	if err != nil {
		return nil, err
	}
	// The child inherits the descriptor; the listener of our runtime is not needed, nor is its unlink on close.
	defer l.Close()
	if ul, ok := l.(*net.UnixListener); ok {
		ul.SetUnlinkOnClose(false)
	}
	sock, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		return nil, err
	}
	if err := f.prepare(sock, path); err != nil {
		_ = sock.Close()
		return nil, err
	}
	return sock, nil
}

func (f *fastcgi) prepare(sock *os.File, path string) error {
	if err := sys.SetNonblock(int(sock.Fd()), false); err != nil {
		return err
	}
	if f.cfg.SocketBacklog > 0 {
		if err := sys.Listen(int(sock.Fd()), f.cfg.SocketBacklog); err != nil {
			return err
		}
	}
	if path == "" {
		return nil
	}
	if f.cfg.SocketOwner != "" {
		if err := os.Chown(path, f.cfg.SocketUID, f.cfg.SocketGID); err != nil {
			return err
		}
	}
	if f.cfg.SocketMode != 0 {
		return os.Chmod(path, os.FileMode(f.cfg.SocketMode))
	}
	return nil
}
