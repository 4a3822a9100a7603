// Package blocks reads texts that hold several files, as platforms keep them in one field, and writes the files:
//
//	---server.conf
//	port = 1
//	---labels.txt
//	cat
//
// Enter at Parse and Write. A line that begins with --- and a name begins a file; --- alone is a line of the file, as YAML
// has it.
package blocks

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/inpod/inpod/internal/trust"
)

// maxBlocks bounds the files of one text.
const maxBlocks = 10_000

// Block is one file.
type Block struct{ Name, Content string }

// Parse splits a text. Its error names the line.
func Parse(text string) ([]Block, error) {
	var blocks []Block
	seen := map[string]int{}
	number := 0
	var content strings.Builder
	end := func() {
		if len(blocks) > 0 {
			blocks[len(blocks)-1].Content = content.String()
		}
		content.Reset()
	}
	for line := range strings.Lines(text) {
		number++
		name, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "---")
		name = strings.TrimSpace(name)
		switch {
		case ok && name != "" && name[0] != '-':
			if err := checkName(name); err != nil {
				return nil, fmt.Errorf("line %d: %w", number, err)
			}
			if first, dup := seen[name]; dup {
				return nil, fmt.Errorf("line %d: %q is there twice, first in line %d", number, name, first)
			}
			if len(blocks) == maxBlocks {
				return nil, fmt.Errorf("line %d: more than %d files", number, maxBlocks)
			}
			end()
			seen[name] = number
			blocks = append(blocks, Block{Name: name})
		case len(blocks) > 0:
			content.WriteString(line)
		case strings.TrimSpace(line) != "":
			return nil, fmt.Errorf("line %d: want ---NAME before the first line of a file", number)
		}
	}
	end()
	return blocks, nil
}

func checkName(name string) error {
	if name == "." || name == ".." || len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r == '/' || r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%q is no name of a file", name)
	}
	return nil
}

// Write brings the files in dir to what the blocks say, each as a whole, and returns how many it changed. Other files stay.
func Write(dir string, blocks []Block, mode os.FileMode) (changed int, err error) {
	if err := trust.Path(dir); err != nil {
		return 0, fmt.Errorf("cannot write into %q: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, fmt.Errorf("cannot make %q: %w", dir, bare(err))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, fmt.Errorf("cannot open %q: %w", dir, bare(err))
	}
	defer root.Close()
	for _, b := range blocks {
		if st, err := root.Stat(b.Name); err == nil && st.Mode().IsRegular() && st.Size() == int64(len(b.Content)) {
			old, err := root.ReadFile(b.Name)
			same := err == nil && bytes.Equal(old, []byte(b.Content))
			if same && st.Mode().Perm() == mode.Perm() {
				continue
			}
			if same && root.Chmod(b.Name, mode) == nil { // else it is another user's
				changed++
				continue
			}
		}
		if err := write(root, b, mode); err != nil {
			return changed, fmt.Errorf("cannot write %q in %q: %w", b.Name, dir, bare(err))
		}
		changed++
	}
	return changed, nil
}

// write makes one file anew. What has the name of the new one is of an agent that was killed, or of somebody who would
// like to read along.
func write(root *os.Root, b Block, mode os.FileMode) error {
	const made = ".inpod-new"
	if err := root.Remove(made); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(made, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(b.Content)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = root.Rename(made, b.Name)
	}
	if err != nil {
		_ = root.Remove(made)
	}
	return err
}

func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
