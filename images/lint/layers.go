package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
)

// contents are the files of all layers of an image that are not the base's.
type contents struct {
	secrets []string        // each with its file; also of files that a later layer removed
	debian  map[string]bool // files that a package brought
	waste   map[string]int64
	pythons map[string]bool // 3.11
	cudas   map[string]bool // 12.1
	system  string          // debian12
}

const smallFile = 256 << 10 // a secret is no longer

// read goes through the layers as they are saved; the first skip layers are somebody else's.
func (b *image) read(skip int) (*contents, error) {
	cmd := exec.Command(b.docker.client, "save", b.ref)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := newContents()
	saved := map[string]*contents{} // by the layer's name in the archive
	var order []string
	err = each(pipe, func(name string, r io.Reader, _ *tar.Header) error {
		switch {
		case name == "manifest.json":
			var manifest []struct{ Layers []string }
			if err := json.NewDecoder(r).Decode(&manifest); err != nil || len(manifest) != 1 {
				return fmt.Errorf("cannot read the manifest: %w", err)
			}
			order = manifest[0].Layers
		case strings.HasSuffix(name, "/layer.tar") || strings.HasPrefix(name, "blobs/") && !strings.HasSuffix(name, "/"):
			layer := newContents()
			if err := each(r, layer.add); err != nil && !errors.Is(err, tar.ErrHeader) {
				return err
			}
			saved[name] = layer
		}
		return nil
	})
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // the first error is the one
		return nil, fmt.Errorf("cannot read the layers: %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("docker save: %w: %s", err, said.String())
	}
	for i, name := range order {
		layer := saved[path.Clean(name)]
		if layer == nil {
			return nil, fmt.Errorf("the layer %q is not in what was saved", name)
		}
		c.merge(layer, i < skip)
	}
	return c, nil
}

func newContents() *contents {
	return &contents{debian: map[string]bool{}, waste: map[string]int64{}, pythons: map[string]bool{}, cudas: map[string]bool{}}
}

// each calls visit for every file of a tar archive.
func each(r io.Reader, visit func(name string, r io.Reader, h *tar.Header) error) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := visit(path.Clean(h.Name), t, h); err != nil {
			return err
		}
	}
}

var (
	pythonFile = regexp.MustCompile(`(^|/)bin/python([23]\.[0-9]+)$`)
	cudaDir    = regexp.MustCompile(`^usr/local/cuda-([0-9]+\.[0-9]+)(/|$)`)
	listFile   = regexp.MustCompile(`^var/lib/dpkg/info/[^/]+\.list$`)
	wasted     = regexp.MustCompile(`^(var/lib/apt/lists/.+_(Packages|Sources)(\..+)?|var/cache/apt/archives/[^/]+\.deb|root/\.cache/.+|home/[^/]+/\.cache/.+|opt/conda/pkgs/.+|root/\.npm/.+)$`)
)

// add notes one file of a layer.
func (c *contents) add(name string, r io.Reader, h *tar.Header) error {
	if m := pythonFile.FindStringSubmatch(name); m != nil {
		c.pythons[m[2]] = true
	}
	if m := cudaDir.FindStringSubmatch(name); m != nil {
		c.cudas[m[1]] = true
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	if wasted.MatchString(name) {
		c.waste[path.Dir(name)] += h.Size
	}
	if why := secretFile("/" + name); why != "" {
		c.secrets = append(c.secrets, name+"\x00"+why)
	}
	if h.Size == 0 || h.Size > smallFile {
		if !listFile.MatchString(name) {
			return nil
		}
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	switch {
	case listFile.MatchString(name):
		for line := range strings.Lines(string(text)) {
			c.debian[strings.TrimPrefix(strings.TrimSpace(line), "/")] = true
		}
	case name == "etc/shadow" || name == "etc/shadow-":
		for line := range strings.Lines(string(text)) {
			if f := strings.Split(line, ":"); len(f) > 1 && f[1] == "" {
				c.secrets = append(c.secrets, name+"\x00lets "+f[0]+" in without a password")
			} else if len(f) > 1 && strings.HasPrefix(f[1], "$") {
				c.secrets = append(c.secrets, name+"\x00holds a password's hash, of "+f[0])
			}
		}
	case name == "usr/lib/os-release" || name == "etc/os-release":
		c.system = release(string(text))
	case bytes.IndexByte(text[:min(len(text), 1024)], 0) >= 0: // no text
	default:
		if what := secretText(string(text)); what != "" {
			c.secrets = append(c.secrets, name+"\x00holds "+what)
		}
	}
	return nil
}

// release is debian12, of /etc/os-release.
func release(text string) string {
	found := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			found[k] = strings.Trim(v, `"'`)
		}
	}
	return strings.ToLower(found["ID"]) + found["VERSION_ID"]
}

// merge puts a layer on top. What a layer of somebody else's holds is not our fault, but says what is in there.
func (c *contents) merge(layer *contents, foreign bool) {
	for k := range layer.pythons {
		c.pythons[k] = true
	}
	for k := range layer.cudas {
		c.cudas[k] = true
	}
	for k := range layer.debian {
		c.debian[k] = true
	}
	if layer.system != "" {
		c.system = layer.system
	}
	if foreign {
		return
	}
	c.secrets = append(c.secrets, layer.secrets...)
	for k, v := range layer.waste {
		c.waste[k] += v
	}
}

// check holds the files against the rules, and against what the version says of them.
func (c *contents) check(f *file, say func(string, ...any)) {
	for _, s := range c.secrets {
		name, why, _ := strings.Cut(s, "\x00")
		if !c.debian[name] { // what a package brings, such as the keys of its own tests, everybody has
			say("/%s %s", name, why)
		}
	}
	for dir, size := range c.waste {
		if size > 1e6 {
			say("/%s holds %d MB that nobody needs", dir, size/1e6)
		}
	}
	t, err := parseTag(expand(f.label(versionLabel), f.args()), f.scratch())
	if err != nil || f.scratch() {
		return
	}
	if t.python != "" && !c.pythons[t.python] {
		say("its version says Python %s, in the image are %s", t.python, keys(c.pythons))
	}
	if t.python == "" && len(c.pythons) > 0 {
		say("has Python %s, and its version does not say so", keys(c.pythons))
	}
	if t.cuda != "" && !c.cudas[strings.Join(strings.SplitN(t.cuda+".", ".", 3)[:2], ".")] {
		say("its version says CUDA %s, in the image are %s", t.cuda, keys(c.cudas))
	}
	if c.system != "" && c.system != t.os+t.release {
		say("its version says %s%s, the image is %s", t.os, t.release, c.system)
	}
}

func keys(m map[string]bool) string {
	if len(m) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}
