package xmlrpc

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"
	"time"
)

type follow func(ctx context.Context, emit func([]byte) error) error

// serveLog is /logtail/NAME, /logtail/NAME/stdout and /logtail/NAME/stderr.
func (h *handler) serveLog(w http.ResponseWriter, r *http.Request) {
	rest := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/logtail"), "/")
	name, stream, _ := strings.Cut(rest, "/")
	if stream == "" {
		stream = "stdout"
	}
	if r.Method != http.MethodGet {
		http.Error(w, "logs are read with GET", http.StatusBadRequest)
		return
	}
	if _, group := wholeGroup(name); name == "" || group || (stream != "stdout" && stream != "stderr") || h.o.Follow == nil {
		http.NotFound(w, r)
		return
	}
	path, err := h.o.Supervisor.LogPath(name, stream)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	h.stream(w, r, path, func(ctx context.Context, emit func([]byte) error) error {
		return h.o.Follow(ctx, path, tailHead, emit)
	})
}

// serveMainLog is /mainlogtail.
func (h *handler) serveMainLog(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		http.Error(w, "logs are read with GET", http.StatusBadRequest)
		return
	}
	if h.o.MainLog == nil {
		http.NotFound(w, r)
		return
	}
	h.stream(w, r, h.o.MainLog.Path(), func(ctx context.Context, emit func([]byte) error) error {
		return h.o.MainLog.Follow(ctx, tailHead, emit)
	})
}

// stream sends a log as long as the client stays. It takes the connection over: supervisorctl sends an empty line too many,
// which net/http would keep for the next request and then not notice that the client leaves.
func (h *handler) stream(w http.ResponseWriter, r *http.Request, path string, follow follow) {
	modified := time.Now()
	if path != "" {
		fi, err := os.Stat(path)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		modified = fi.ModTime()
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Time{})
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer cancel()
		_, _ = io.Copy(io.Discard, rw)
	}()
	// The reader ends when the connection is closed, which the deferred Close does only afterwards.
	defer func() { _ = conn.Close(); <-gone }()
	chunked := r.ProtoAtLeast(1, 1)
	if err := writeHead(conn, modified, chunked); err != nil {
		return
	}
	err = follow(ctx, h.emitter(conn, rw.Writer, chunked))
	if err != nil && ctx.Err() == nil {
		h.log.Warn("a log is no longer followed", "path", path, "err", err)
	}
}

func writeHead(conn net.Conn, modified time.Time, chunked bool) error {
	head := "HTTP/1.1 200 OK\r\n"
	if !chunked {
		head = "HTTP/1.0 200 OK\r\n"
	}
	head += "Content-Type: text/plain;charset=utf-8\r\nX-Accel-Buffering: no\r\nConnection: close\r\n" +
		"Last-Modified: " + modified.UTC().Format(http.TimeFormat) + "\r\n"
	if chunked {
		head += "Transfer-Encoding: chunked\r\n"
	}
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := io.WriteString(conn, head+"\r\n")
	return err
}

// emitter writes each piece at once, in a chunk for HTTP/1.1.
func (h *handler) emitter(conn net.Conn, w *bufio.Writer, chunked bool) func([]byte) error {
	var body io.Writer = w
	if chunked {
		body = httputil.NewChunkedWriter(w)
	}
	return func(p []byte) error {
		_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := body.Write(p); err != nil {
			return fmt.Errorf("cannot send a log: %w", err)
		}
		return w.Flush()
	}
}
