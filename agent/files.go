package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"syscall"

	"github.com/inpod/inpod/boot/blocks"
	"github.com/inpod/inpod/config"
)

// maxText bounds a text of files; ConfigMaps have at most 1 MiB.
const maxText = 16 << 20

// fileStep writes the files of texts that hold several. There is one before other steps also where there are no files: a
// reload may bring some.
type fileStep struct {
	*board
	a *agent
}

// fileGate is closed until the step has run: a reload during the start must not write files before the seed, which fills
// nothing that has anything in it.
type fileGate struct {
	sync.Mutex
	open bool
}

func (a *agent) fileStep(l *loaded) step {
	return &fileStep{board: newBoard("files", fileNames(l.cfg)), a: a}
}

func fileNames(cfg *config.Config) []string {
	names := make([]string, len(cfg.Files))
	for i, f := range cfg.Files {
		names[i] = f.To
	}
	return names
}

// run implements step. It writes what the settings say by now.
func (s *fileStep) run(context.Context) error {
	gate := &s.a.prep.files
	gate.Lock()
	defer gate.Unlock()
	gate.open = true
	cfg := s.a.settings.Load()
	s.become(newBoard("files", fileNames(cfg)))
	for i, f := range cfg.Files {
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

// become takes the items of a new board.
func (b *board) become(fresh *board) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list, b.began = fresh.list, fresh.began
}

// rewriteFiles writes the files again, where their text has changed. Before the step has run it leaves them to that.
func (a *agent) rewriteFiles(cfg *config.Config) {
	gate := &a.prep.files
	gate.Lock()
	defer gate.Unlock()
	if !gate.open {
		return
	}
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
		b, err := readRegular(f.From)
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

// readRegular reads a text of files. No FIFO is waited for.
func readRegular(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, err
	}
	defer file.Close()
	if st, err := file.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, cmp.Or(err, errors.New("it is no file"))
	}
	b, err := io.ReadAll(io.LimitReader(file, maxText+1))
	if err == nil && len(b) > maxText {
		err = errors.New("it is too large")
	}
	return b, err
}
