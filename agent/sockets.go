package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/inpod/inpod/config"
)

// unixSocket says how a unix socket is made.
type unixSocket struct {
	path     string
	mode     os.FileMode
	uid, gid int // -1 = unchanged
}

// listenUnix makes a socket so that it never exists with other rights than it shall have: it is bound under another
// name and moved. A socket that nobody answers on is replaced.
func listenUnix(s unixSocket) (*namedSocket, error) {
	if c, err := net.DialTimeout("unix", s.path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s: another agent or supervisord answers there: %w", s.path, syscall.EADDRINUSE)
	}
	if st, err := os.Lstat(s.path); err == nil && st.Mode()&fs.ModeSocket == 0 {
		return nil, fmt.Errorf("%s: exists and is no socket", s.path)
	}
	tmp := filepath.Join(filepath.Dir(s.path), "."+strconv.Itoa(os.Getpid()))
	_ = os.Remove(tmp) // of an agent that was killed in this very moment
	addr, err := net.ResolveUnixAddr("unix", tmp)
	if err != nil {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", addr)
	if err != nil {
		return nil, bareNet(err)
	}
	ln.SetUnlinkOnClose(false)
	err = os.Chmod(tmp, s.mode)
	if err == nil && (s.uid >= 0 || s.gid >= 0) {
		err = os.Chown(tmp, s.uid, s.gid)
	}
	if err == nil {
		err = os.Rename(tmp, s.path)
	}
	if err != nil {
		ln.Close()
		_ = os.Remove(tmp)
		return nil, err
	}
	return &namedSocket{UnixListener: ln, path: s.path}, nil
}

// namedSocket removes its path when it is closed, and the directory that was made for it.
type namedSocket struct {
	*net.UnixListener
	path string
	made bool // the directory was made by us
}

func (s *namedSocket) Close() error {
	err := s.UnixListener.Close()
	if err == nil {
		_ = os.Remove(s.path)
		if s.made {
			_ = os.Remove(filepath.Dir(s.path)) // not when somebody else uses it meanwhile
		}
	}
	return err
}

// listenControl opens the control socket at the first path that can be had. In a container with a read-only root
// there may be none: that is an error where admin.socket was set, and a warning where it was not.
func listenControl(cfg *config.Config, log *slog.Logger) (net.Listener, string, error) {
	var errs []error
	for _, path := range cfg.SocketPaths() {
		made, err := ownDirectory(filepath.Dir(path))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ln, err := listenUnix(unixSocket{path: path, mode: 0o600, uid: -1, gid: -1})
		if err == nil {
			ln.made = made
			return ln, path, nil
		}
		if made {
			_ = os.Remove(filepath.Dir(path))
		}
		errs = append(errs, err)
		if errors.Is(err, syscall.EADDRINUSE) {
			break // a second agent of the same user; another path would only hide it
		}
	}
	if len(errs) == 0 {
		return nil, "", nil // off
	}
	err := errors.Join(errs...)
	if cfg.IsSet("admin.socket") || errors.Is(err, syscall.EADDRINUSE) {
		return nil, "", fmt.Errorf("cannot open the control socket (admin.socket): %w", err)
	}
	log.Warn("going on without a control socket: no place for it can be written; mount a volume at /run/inpod, "+
		"or control the agent through admin.listen with admin.token_file, or through [unix_http_server]",
		"error", strings.ReplaceAll(err.Error(), "\n", "; "))
	return nil, "", nil
}

// ownDirectory sees to a directory that only this user can write to, and tells whether it made it. In /tmp somebody
// else may have made it first.
func ownDirectory(dir string) (made bool, err error) {
	failed := os.Mkdir(dir, 0o755)
	if failed == nil {
		return true, nil
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return false, failed
	}
	if filepath.Dir(dir) != "/tmp" {
		return false, nil
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || !st.IsDir() || int(sys.Uid) != os.Getuid() || st.Mode().Perm()&0o022 != 0 {
		return false, fmt.Errorf("%s: is not a directory that belongs to this user alone", dir)
	}
	return false, nil
}

// bareNet takes "listen unix …: bind:" off an error whose message names the address already.
func bareNet(err error) error {
	var oe *net.OpError
	if errors.As(err, &oe) {
		return fmt.Errorf("%s: %w", oe.Addr, oe.Err)
	}
	return err
}
