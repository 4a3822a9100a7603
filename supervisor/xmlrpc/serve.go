package xmlrpc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// ListenTCP listens on host and port; an empty host or "*" is every address.
func ListenTCP(ctx context.Context, host string, port int) (net.Listener, error) {
	if host == "*" {
		host = ""
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("cannot listen for [inet_http_server]: %w", err)
	}
	return l, nil
}

// ListenUnix listens on a socket file with the mode and, unless they are -1, the owners given. A stale socket that
// nobody answers on is replaced; a live one is EADDRINUSE, and what is no socket is left alone. Close removes the file
// if it is still ours.
func ListenUnix(ctx context.Context, path string, mode fs.FileMode, uid, gid int) (net.Listener, error) {
	l, err := listenUnix(ctx, path, mode, uid, gid)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on socket %q: %w", path, err)
	}
	return l, nil
}

func listenUnix(ctx context.Context, path string, mode fs.FileMode, uid, gid int) (net.Listener, error) {
	// The socket gets its mode and owner in a private folder and appears under its name by a link: nobody can connect
	// earlier, and of two agents only one wins.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	private := filepath.Join(dir, "s")
	l, err := new(net.ListenConfig).Listen(ctx, "unix", private)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	err = os.Chmod(private, mode)
	if err == nil && (uid >= 0 || gid >= 0) {
		err = os.Lchown(private, uid, gid)
	}
	if err == nil {
		err = link(private, path)
	}
	var fi fs.FileInfo
	if err == nil {
		fi, err = os.Lstat(path)
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return &unixListener{Listener: l, path: path, fi: fi}, nil
}

// link gives the socket its name, and takes a name away from a dead one first.
func link(from, to string) error {
	for range 3 {
		err := os.Link(from, to)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		fi, err := os.Lstat(to)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		case fi.Mode()&fs.ModeSocket == 0:
			return fmt.Errorf("a file is there that is no socket: %w", fs.ErrExist)
		}
		conn, err := net.DialTimeout("unix", to, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return syscall.EADDRINUSE
		}
		if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syscall.EADDRINUSE
}

type unixListener struct {
	net.Listener
	path string
	fi   fs.FileInfo
}

func (l *unixListener) Close() error {
	if fi, err := os.Lstat(l.path); err == nil && os.SameFile(fi, l.fi) {
		_ = os.Remove(l.path)
	}
	return l.Listener.Close()
}

// Serve serves until ctx ends, and then gives requests a moment to end. Slow and idle clients are dropped.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return base },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("cannot serve on %q: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	// Calls that wait and logs that are followed end with their context.
	cancel()
	stop, done := context.WithTimeout(context.Background(), time.Second)
	defer done()
	if err := srv.Shutdown(stop); err != nil {
		_ = srv.Close()
	}
	<-ended
	return nil
}
