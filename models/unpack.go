package models

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/inpod/inpod/config"
)

const (
	maxEntries = 1_000_000
	maxDepth   = 100
	maxLink    = 4096     // PATH_MAX
	maxPadding = 64 << 20 // behind the end of a tar
)

// unpacker writes the entries of one archive below a directory, and nowhere else: os.Root refuses every way out of it, also
// one through a symbolic link that an earlier entry made.
type unpacker struct {
	ctx     context.Context
	root    *os.Root
	below   string // what of the archive is taken; "" for everything
	layer   bool   // of an image
	limit   int64  // bytes, 0 for none
	entries int
	bytes   int64 // of this archive and what came before it
	taken   int
	tops    []string // some names at the top, to tell where path finds nothing
}

// unpack unpacks the partial file into the new model.
func (u *unit) unpack(ctx context.Context, w *work, f *file, kind string) error {
	part, err := w.root.Open(partName)
	if err != nil {
		return err
	}
	defer part.Close()
	root, err := w.root.OpenRoot(newName)
	if err != nil {
		return err
	}
	defer root.Close()
	x := &unpacker{ctx: ctx, root: root, below: strings.Trim(u.model.Path, "/"), layer: f.layer, limit: int64(u.model.MaxSize)}
	if x.below != "" {
		x.below = path.Clean(x.below)
	}
	x.bytes = w.bytes
	if err := x.all(part, kind); err != nil {
		return err
	}
	w.bytes = x.bytes
	if x.taken == 0 && x.below != "" && !f.layer {
		return fmt.Errorf("it holds no directory %q (models[].path); at its top are %s", x.below, strings.Join(x.tops, ", "))
	}
	return nil
}

func (x *unpacker) all(part *os.File, kind string) error {
	var r io.Reader = bufio.NewReaderSize(contextReader{x.ctx, part}, copyBuffer)
	switch kind {
	case kindZip:
		return x.zip(part)
	case kindGzip:
		z, err := gzip.NewReader(r)
		if err != nil {
			return err
		}
		r = z
	}
	if err := x.tar(tar.NewReader(r)); err != nil {
		return err
	}
	// The checksum of a gzip stands behind the end of the tar.
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxPadding))
	if err == nil && n == maxPadding {
		err = fmt.Errorf("it goes on behind its end")
	}
	return err
}

func (x *unpacker) tar(r *tar.Reader) error {
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // the path is judged below
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		name, err := x.name(h.Name)
		if err != nil {
			return err
		}
		if name == "" {
			continue
		}
		if x.layer && x.whiteout(name) {
			continue
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = x.directory(name)
		case tar.TypeReg, tar.TypeGNUSparse:
			err = x.file(name, h.FileInfo().Mode(), h.ModTime, h.Size, r)
		case tar.TypeSymlink:
			err = x.symlink(name, h.Linkname)
		case tar.TypeLink:
			err = x.link(name, h.Linkname)
		default:
			err = fmt.Errorf("%q is a device or something else that no model needs (type %q)", clip(h.Name), h.Typeflag)
		}
		if err != nil {
			return err
		}
	}
}

func (x *unpacker) zip(part *os.File) error {
	st, err := part.Stat()
	if err != nil {
		return err
	}
	z, err := zip.NewReader(part, st.Size())
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return err
	}
	for _, f := range z.File {
		name, err := x.name(f.Name)
		if err != nil {
			return err
		}
		if name == "" {
			continue
		}
		if err := x.zipped(name, f); err != nil {
			return err
		}
	}
	return nil
}

func (x *unpacker) zipped(name string, f *zip.File) error {
	mode := f.Mode()
	switch {
	case mode.IsDir():
		return x.directory(name)
	case mode.IsRegular(), mode&fs.ModeSymlink != 0:
	default:
		return fmt.Errorf("%q is a device or something else that no model needs", clip(f.Name))
	}
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if mode.IsRegular() {
		return x.file(name, mode, f.Modified, int64(f.UncompressedSize64), contextReader{x.ctx, r})
	}
	target, err := io.ReadAll(io.LimitReader(r, maxLink))
	if err != nil {
		return err
	}
	return x.symlink(name, string(target))
}

// name judges the path of an entry, and makes it one below the root. "" is none that is taken.
func (x *unpacker) name(raw string) (string, error) {
	if x.entries++; x.entries > maxEntries {
		return "", fmt.Errorf("it has more than %d entries", maxEntries)
	}
	if err := x.ctx.Err(); err != nil {
		return "", err
	}
	switch {
	case strings.HasPrefix(raw, "/"):
		return "", fmt.Errorf("the path %q is absolute", clip(raw))
	case slices.Contains(strings.Split(raw, "/"), ".."):
		return "", fmt.Errorf("the path %q leads out of it (..)", clip(raw))
	case strings.ContainsAny(raw, "\x00\\"):
		return "", fmt.Errorf("the path %q holds a NUL or a backslash", clip(raw))
	case strings.Count(raw, "/") > maxDepth:
		return "", fmt.Errorf("the path %q is too deep", clip(raw))
	}
	name := path.Clean(raw)
	if name == "." || raw == "" {
		return "", nil
	}
	if top, _, _ := strings.Cut(name, "/"); len(x.tops) < 5 && !slices.Contains(x.tops, top) {
		x.tops = append(x.tops, top)
	}
	if x.below == "" {
		x.taken++
		return ours(name)
	}
	rest, ok := strings.CutPrefix(name, x.below+"/")
	if !ok {
		return "", nil
	}
	x.taken++
	return ours(rest)
}

// ours refuses the name of the stamp, and of the directory where inpod works.
func ours(name string) (string, error) {
	if top, _, _ := strings.Cut(name, "/"); top == stampName || top == insideName {
		return "", fmt.Errorf("the name %q is inpod's own", top)
	}
	return name, nil
}

// whiteout removes what an image's layer says is gone (OCI image-spec, layer.md), and tells whether it did say so.
func (x *unpacker) whiteout(name string) bool {
	dir, base := path.Split(name)
	gone, ok := strings.CutPrefix(base, ".wh.")
	if !ok {
		return false
	}
	if gone == ".wh..opq" {
		x.empty(path.Clean(dir))
	} else if gone != "" && filepath.IsLocal(gone) {
		_ = x.root.RemoveAll(path.Join(dir, gone)) // it is absent where the layer below has it outside of path
	}
	return true
}

func (x *unpacker) empty(dir string) {
	d, err := x.root.Open(dir)
	if err != nil {
		return
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, name := range names {
		_ = x.root.RemoveAll(path.Join(dir, name))
	}
}

func (x *unpacker) directory(name string) error {
	if st, err := x.root.Lstat(name); err == nil && !st.IsDir() {
		if err := x.root.Remove(name); err != nil {
			return err
		}
	}
	return x.root.MkdirAll(name, 0o755)
}

// room makes place for an entry: its directory is there and its name is free. The last of several of one name counts.
func (x *unpacker) room(name string) error {
	if dir := path.Dir(name); dir != "." {
		if err := x.root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	st, err := x.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.IsDir() && x.layer {
		return x.root.RemoveAll(name)
	}
	return x.root.Remove(name)
}

func (x *unpacker) file(name string, mode fs.FileMode, modified time.Time, size int64, r io.Reader) error {
	if err := x.grow(0, size); err != nil {
		return err
	}
	if err := x.room(name); err != nil {
		return err
	}
	f, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = x.fill(f, r)
	if err == nil { // who runs the model may be another user than the agent; set-id bits are not kept
		err = f.Chmod(0o644 | mode.Perm()&0o111)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil && !modified.IsZero() {
		err = x.root.Chtimes(name, time.Time{}, modified)
	}
	return err
}

func (x *unpacker) fill(f *os.File, r io.Reader) error {
	buf := make([]byte, min(copyBuffer, 64<<10))
	for {
		n, err := r.Read(buf)
		if gerr := x.grow(int64(n), 0); gerr != nil {
			return gerr
		}
		if _, werr := f.Write(buf[:n]); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// grow counts n bytes, and fails when they, and more that are announced, pass models[].max_size.
func (x *unpacker) grow(n, more int64) error {
	x.bytes += n
	return bound(x.limit, x.bytes, more)
}

// count counts a file that is not unpacked.
func (u *unit) count(w *work, n int64) error {
	w.bytes += n
	return bound(int64(u.model.MaxSize), w.bytes, 0)
}

func bound(limit, bytes, more int64) error {
	if limit > 0 && (bytes > limit || more > limit-bytes) {
		return fmt.Errorf("it has more than %s (models[].max_size)", config.Size(limit))
	}
	return nil
}

// symlink makes a link. Where all of them lead is looked at when everything is there (stamp.survey): what a link means
// depends on others.
func (x *unpacker) symlink(name, target string) error {
	if target == "" || path.IsAbs(target) || len(target) >= maxLink || strings.ContainsRune(target, 0) {
		return fmt.Errorf("the symbolic link %q leads to %q, outside of it", clip(name), clip(target))
	}
	if err := x.room(name); err != nil {
		return err
	}
	return x.root.Symlink(target, name)
}

// link makes a hard link to an earlier file.
func (x *unpacker) link(name, raw string) error {
	entries, taken := x.entries, x.taken
	target, err := x.name(raw)
	x.entries, x.taken = entries, taken
	if err != nil {
		return err
	}
	if target == "" {
		return fmt.Errorf("%q is a link to %q, which is not in what is taken (models[].path)", clip(name), clip(raw))
	}
	if target == name {
		return nil
	}
	st, err := x.root.Lstat(target)
	if err != nil || !st.Mode().IsRegular() {
		return fmt.Errorf("%q is a link to %q, which is no earlier file", clip(name), clip(raw))
	}
	if err := x.room(name); err != nil {
		return err
	}
	return x.root.Link(target, name)
}

// clip shortens a name that an archive made up.
func clip(s string) string {
	const most = 120
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
