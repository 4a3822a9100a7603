package models

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
)

// source is where a unit comes from.
type source interface {
	// list says which files make the model up. had is what was fetched last, nil when nothing was: a source that is
	// asked whether that has changed answers with had.Version when it has not.
	list(ctx context.Context, had *stamp) (*listing, error)
}

// listing is what a source has.
type listing struct {
	files []file
	// version changes with the content. "" where it is known only when the file has come.
	version string
	sha256  string // that stands for the whole; "" where there is one file, whose sum it is, or nobody says
}

func (l *listing) size() int64 {
	var sum int64
	for i := range l.files {
		if l.files[i].size < 0 {
			return 0
		}
		sum += l.files[i].size
	}
	return sum
}

// The ways to treat a file that may be an archive.
const (
	unpackNever = iota
	unpackAuto
	unpackAlways
)

// file is one that a source has.
type file struct {
	name   string // its path in the model's directory
	size   int64  // -1: not known
	sha256 string // that it must have; "" where nobody says
	unpack int
	layer  bool // of an image: files of earlier ones may be removed
	// open opens the file from an offset on. tag is what an earlier open of the same file told; when the file has another
	// one now, or the source cannot begin there, it is opened from its beginning.
	open func(ctx context.Context, from int64, tag string) (*body, error)
}

// body is an open file.
type body struct {
	io.ReadCloser
	from    int64  // where it begins
	total   int64  // of the whole file; -1: not known
	tag     string // changes with the file's bytes, so that a fetch may go on; "" where there is none
	version string // changes with the file
}

// source makes the source that the unit's URL names.
func (u *unit) source() (source, error) {
	if filepath.IsAbs(u.url) {
		return &fileSource{path: u.url, u: u}, nil
	}
	at, err := url.Parse(u.url)
	if err != nil {
		return nil, fmt.Errorf("the URL is none: %w", plainly(err))
	}
	switch at.Scheme {
	case "http", "https":
		return newHTTPSource(u, at)
	case "s3":
		return newS3Source(u, at)
	case "oci":
		return newRegistrySource(u, at)
	case "file":
		return &fileSource{path: at.Path, u: u}, nil
	}
	return nil, fmt.Errorf("the URL has the scheme %q, which is none of a model", at.Scheme)
}

// rule is what models[].unpack says.
func (u *unit) rule() int {
	switch u.model.Unpack {
	case "off":
		return unpackNever
	case "on":
		return unpackAlways
	}
	return unpackAuto
}

// lastName is the name of the one file that a URL's path names.
func lastName(path string) string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	if !filepath.IsLocal(name) || name == "." || strings.ContainsRune(name, 0) || strings.HasPrefix(name, ".inpod") {
		return "model"
	}
	return name
}
