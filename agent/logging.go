package agent

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/inpod/inpod/config"
)

// logs is where the agent's own records go: standard output, at log.level, and the main log that supervisorctl's
// maintail shows, at loglevel of [supervisord].
type logs struct {
	handler atomic.Pointer[slog.Handler]
	stdout  io.Writer // nil with silent=true
	mainLog io.Writer
}

// apply makes new settings those of every logger that was handed out.
func (l *logs) apply(cfg config.Log, loglevel string) {
	var hs []slog.Handler
	for _, t := range []struct {
		w     io.Writer
		level slog.Level
	}{{l.stdout, configLevel(cfg.Level)}, {l.mainLog, iniLevel(loglevel)}} {
		if t.w == nil {
			continue
		}
		opts := &slog.HandlerOptions{Level: t.level}
		if cfg.Format == "text" {
			hs = append(hs, slog.NewTextHandler(t.w, opts))
		} else {
			hs = append(hs, slog.NewJSONHandler(t.w, opts))
		}
	}
	h := slog.Handler(slog.NewMultiHandler(hs...))
	l.handler.Store(&h)
}

func configLevel(s string) slog.Level {
	switch s {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// iniLevel maps Supervisor's levels; blather and trace are below debug there and the same here.
func iniLevel(s string) slog.Level {
	switch s {
	case "critical", "critc", "error", "erro":
		return slog.LevelError
	case "warn", "warning":
		return slog.LevelWarn
	case "debug", "debg", "trace", "trac", "blather", "blat":
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// logger hands out a logger that follows apply.
func (l *logs) logger() *slog.Logger { return slog.New(&following{logs: l}) }

// following asks for the current handler at each record and repeats on it the With calls that were made.
type following struct {
	logs *logs
	with []func(slog.Handler) slog.Handler
	made atomic.Pointer[made]
}

// made is what the With calls made of a handler. It is kept: to make it takes as long as a record.
type made struct {
	of *slog.Handler
	h  slog.Handler
}

func (f *following) current() slog.Handler {
	now := f.logs.handler.Load()
	if m := f.made.Load(); m != nil && m.of == now {
		return m.h
	}
	h := *now
	for _, w := range f.with {
		h = w(h)
	}
	f.made.Store(&made{now, h})
	return h
}

// Enabled implements slog.Handler.
func (f *following) Enabled(ctx context.Context, level slog.Level) bool {
	return (*f.logs.handler.Load()).Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (f *following) Handle(ctx context.Context, r slog.Record) error {
	return f.current().Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (f *following) WithAttrs(attrs []slog.Attr) slog.Handler {
	return f.add(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

// WithGroup implements slog.Handler.
func (f *following) WithGroup(name string) slog.Handler {
	return f.add(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (f *following) add(w func(slog.Handler) slog.Handler) slog.Handler {
	return &following{logs: f.logs, with: append(f.with[:len(f.with):len(f.with)], w)}
}
