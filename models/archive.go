package models

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The formats that are unpacked.
const (
	kindTar  = "tar"
	kindGzip = "tar.gz"
	kindZip  = "zip"
)

// archiveNames are the ends of names that say that a file is nothing but an archive. What is one by its content alone
// (.pt, .npz, .mar and .keras are zip files, .nemo is a tar) belongs together.
var archiveNames = []string{".tar", ".tar.gz", ".tgz", ".zip"}

// unread are the ends of names of archives that are not read.
var unread = []string{".tar.zst", ".tzst", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tbz", ".tar.lz4", ".7z", ".rar"}

func endsWith(name string, ends []string) bool {
	name = strings.ToLower(name)
	for _, end := range ends {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

// archiveKind tells which kind of archive the partial file is, "" for one that stays as it is.
func (u *unit) archiveKind(w *work, f *file) (string, error) {
	if f.unpack == unpackNever {
		return "", nil
	}
	named := endsWith(f.name, archiveNames)
	if f.unpack == unpackAuto && !named && !bare(f.name) {
		if endsWith(f.name, unread) {
			return "", fmt.Errorf("%s is packed in a way that is not read; want tar, tar.gz or zip, or unpack: off", f.name)
		}
		return "", nil
	}
	p, err := w.root.Open(partName)
	if err != nil {
		return "", err
	}
	defer p.Close()
	kind, err := sniff(p)
	if err != nil {
		return "", err
	}
	if kind == kindZip && f.unpack == unpackAuto && !named {
		kind = ""
	}
	if kind == "" && (f.unpack == unpackAlways || named) {
		return "", fmt.Errorf("%s is no archive that is read (tar, tar.gz, zip); unpack: off keeps it as it is", f.name)
	}
	return kind, nil
}

// bare tells whether a name says nothing of what the file is.
func bare(name string) bool { return !strings.ContainsRune(name, '.') }

// sniff looks at the first bytes of a file, unpacked if need be; "" for what is no archive.
func sniff(r io.Reader) (string, error) {
	b := bufio.NewReaderSize(r, 4<<10)
	head, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	kind, inner := kindTar, io.Reader(b)
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")), bytes.HasPrefix(head, []byte("PK\x05\x06")):
		return kindZip, nil
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		kind = kindGzip
		if inner, err = gzip.NewReader(b); err != nil {
			return "", nil
		}
	}
	if isTar(inner) {
		return kind, nil
	}
	return "", nil
}

// isTar tells whether a tar begins here: its first header has a checksum, or there is nothing but its end.
func isTar(r io.Reader) bool {
	block := make([]byte, 512)
	if _, err := io.ReadFull(r, block); err != nil {
		return false
	}
	_, err := tar.NewReader(io.MultiReader(bytes.NewReader(block), r)).Next()
	return err == nil || errors.Is(err, tar.ErrInsecurePath) || errors.Is(err, io.EOF)
}
