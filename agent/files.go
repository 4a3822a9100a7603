package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/inpod/inpod/boot/blocks"
	"github.com/inpod/inpod/config"
)

// maxText bounds a text of files; ConfigMaps have at most 1 MiB.
const maxText = 16 << 20

// fileStep writes the files of texts that hold several.
type fileStep struct {
	*board
	a   *agent
	cfg *config.Config
}

func (a *agent) fileStep(l *loaded) step {
	if len(l.cfg.Files) == 0 {
		return nil
	}
	names := make([]string, len(l.cfg.Files))
	for i, f := range l.cfg.Files {
		names[i] = f.To
	}
	return &fileStep{board: newBoard("files", names), a: a, cfg: l.cfg}
}

// run implements step.
func (s *fileStep) run(context.Context) error {
	for i, f := range s.cfg.Files {
		s.begin(i)
		n, err := s.a.writeFiles(f)
		switch {
		case err != nil && f.Required:
			s.end(i, itemFailed, err.Error())
			return err
		case err != nil:
			s.end(i, itemFailed, err.Error())
			s.a.log.Error("cannot write files; the start goes on without", "to", f.To, "error", err)
		default:
			s.end(i, itemDone, fmt.Sprintf("%d files written", n))
			s.a.log.Info("files are written", "to", f.To, "changed", n)
		}
	}
	return nil
}

// rewriteFiles writes the files again, where their text has changed.
func (a *agent) rewriteFiles(cfg *config.Config) {
	for _, f := range cfg.Files {
		if n, err := a.writeFiles(f); err != nil {
			a.log.Error("cannot write files; the old ones stay", "to", f.To, "error", err)
		} else if n > 0 {
			a.log.Info("files are written", "to", f.To, "changed", n)
		}
	}
}

func (a *agent) writeFiles(f config.Files) (changed int, err error) {
	name, text := f.From, ""
	if f.FromEnv != "" {
		name, text = "$"+f.FromEnv, a.userMaker(a.settings.Load()).Env[f.FromEnv]
	} else {
		file, err := os.Open(f.From)
		if err != nil {
			return 0, fmt.Errorf("cannot read the files: %w", err)
		}
		defer file.Close()
		b, err := io.ReadAll(io.LimitReader(file, maxText+1))
		if err == nil && len(b) > maxText {
			err = errors.New("it is too large")
		}
		if err != nil {
			return 0, fmt.Errorf("cannot read the files in %s: %w", f.From, err)
		}
		text = string(b)
	}
	list, err := blocks.Parse(text)
	if err != nil {
		return 0, fmt.Errorf("cannot read the files in %s: %w", name, err)
	}
	mode, _ := strconv.ParseUint(f.Mode, 8, 32) // config has looked at it
	return blocks.Write(f.To, list, os.FileMode(mode))
}
