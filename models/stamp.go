package models

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// stampName is the file in a model's directory that says what it is.
const stampName = ".inpod-model.json"

// mostListed bounds the files that a stamp lists; of a model with more only their number is known.
const mostListed = 10_000

// stamp says what was fetched.
type stamp struct {
	URL     string           `json:"url"` // without its query
	Version string           `json:"version,omitempty"`
	SHA256  string           `json:"sha256,omitempty"`
	Unpack  string           `json:"unpack"`
	Path    string           `json:"path,omitempty"`
	Fetched time.Time        `json:"fetched"`
	Count   int              `json:"count"`
	Bytes   int64            `json:"bytes"`
	Files   map[string]int64 `json:"files,omitempty"` // with their sizes
}

// stamp reads the place's; nil where there is none that can be read.
func (p *place) stamp() *stamp {
	p.stamped, _ = os.ReadFile(filepath.Join(p.to, stampName))
	var s stamp
	if json.Unmarshal(p.stamped, &s) != nil || s.Count == 0 {
		return nil
	}
	return &s
}

func (s *stamp) describe(u *unit) {
	at, _, _ := strings.Cut(u.url, "?")
	s.URL, s.Unpack, s.Path, s.Fetched = at, u.model.Unpack, u.model.Path, time.Now().UTC().Truncate(time.Second)
}

// covers tells whether what the stamp tells of is what the unit wants, and is still there. Files that came later are no
// fault: servers keep caches beside a model.
func (s *stamp) covers(u *unit, dir string) bool {
	at, _, _ := strings.Cut(u.url, "?")
	if s.Unpack != u.model.Unpack || s.Path != u.model.Path {
		return false
	}
	if u.sha256 != "" && s.SHA256 != u.sha256 || u.sha256 == "" && s.URL != at {
		return false
	}
	for name, size := range s.Files {
		if st, err := os.Lstat(filepath.Join(dir, name)); err != nil || st.Mode().IsRegular() && st.Size() != size {
			return false
		}
	}
	return true
}

// survey counts what is in the new model, and fails on a symbolic link that leads out of it: a server would follow it.
func (s *stamp) survey(ctx context.Context, root *os.Root) error {
	s.Files = map[string]int64{}
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || d.IsDir() || name == stampName {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		if st.Mode()&fs.ModeSymlink != 0 {
			if _, err := root.Stat(name); err != nil {
				return fmt.Errorf("the symbolic link %q leads nowhere inside the model", name)
			}
		}
		s.Count++
		s.Bytes += st.Size()
		if s.Count > mostListed {
			s.Files = nil
		} else if s.Files != nil {
			s.Files[filepath.FromSlash(name)] = st.Size()
		}
		return nil
	})
}

func (s *stamp) write(root *os.Root) error {
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		panic("BUG: models: " + err.Error())
	}
	return root.WriteFile(stampName, append(b, '\n'), 0o644)
}

// changed tells whether the place has another stamp than when it was looked at.
func (p *place) changed() bool {
	b, _ := os.ReadFile(filepath.Join(p.to, stampName))
	return !bytes.Equal(b, p.stamped)
}
