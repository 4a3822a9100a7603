package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// image is what docker image inspect says.
type image struct {
	docker *docker
	ref    string
	own    int // layers above the base

	ID       string `json:"Id"`
	RepoTags []string
	Size     int64
	Config   struct {
		User         string
		Env          []string
		Entrypoint   []string
		ExposedPorts map[string]struct{}
		Labels       map[string]string
	}
	RootFS struct{ Layers []string }
}

// image returns inpod/NAME, or nil when it was not built.
func (d *docker) image(name string) (*image, error) {
	ref := "inpod/" + name + ":latest"
	out, err := d.run("image", "ls", "-q", ref)
	if err != nil || len(strings.TrimSpace(string(out))) == 0 {
		return nil, err
	}
	img, err := d.inspect(ref)
	return img, err
}

func (d *docker) inspect(ref string) (*image, error) {
	out, err := d.run("image", "inspect", ref)
	if err != nil {
		return nil, err
	}
	var list []*image
	if err := json.Unmarshal(out, &list); err != nil || len(list) != 1 {
		return nil, fmt.Errorf("cannot read what docker says of %q: %w", ref, err)
	}
	list[0].docker, list[0].ref = d, ref
	return list[0], nil
}

// check holds the image against its Dockerfile.
func (b *image) check(f *file) ([]fault, error) {
	var faults []fault
	say := func(format string, args ...any) {
		faults = append(faults, fault{b.ref, 0, fmt.Sprintf(format, args...)})
	}
	b.config(f, say)

	base := f.args()["BASE_IMAGE"]
	var below []string
	if base != "" && !f.scratch() {
		if under, err := b.docker.inspect(base); err == nil { // not here: all layers count as the image's own
			below = under.RootFS.Layers
		}
	}
	if !slices.Equal(below, b.RootFS.Layers[:min(len(below), len(b.RootFS.Layers))]) {
		below = nil // built from another one
	}
	b.own = len(b.RootFS.Layers) - len(below)
	if b.own > maxLayers {
		say("%d layers above %s, at most %d", b.own, base, maxLayers)
	}

	history, err := b.docker.run("history", "--no-trunc", "--format", "{{.CreatedBy}}", b.ref)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(history)) {
		if what := secretText(line); what != "" {
			say("the history holds %s", what)
		}
		for _, word := range strings.Fields(line) {
			if k, v, ok := strings.Cut(word, "="); ok && secretSetting(k, strings.Trim(v, `"'`)) {
				say("the history holds %s=…", k)
			}
		}
	}
	files, err := b.read(len(below))
	if err != nil {
		return nil, err
	}
	files.check(f, say)
	return faults, nil
}

// config is what is written in the image beside its files.
func (b *image) config(f *file, say func(string, ...any)) {
	version := b.Config.Labels[versionLabel]
	if _, err := parseTag(version, f.scratch()); err != nil {
		say("%v", err)
	}
	if tag := "inpod/" + f.name + ":" + version; !slices.Contains(b.RepoTags, tag) {
		say("is not tagged %s, as its label %s says, but %q", tag, versionLabel, b.RepoTags)
	}
	for _, l := range wanted {
		if b.Config.Labels[l] == "" && (l != sizeLabel || !f.scratch()) {
			say("the label %s is missing", l)
		}
	}
	if want, ok := f.one("ENTRYPOINT"); ok {
		if list, _ := want.list(); !slices.Equal(list, b.Config.Entrypoint) {
			say("the entrypoint is %q, the Dockerfile says %q: build it again", b.Config.Entrypoint, list)
		}
	}
	if rootUser(b.Config.User) && b.Config.Labels[rootLabel] == "" && !f.scratch() {
		say("runs as root")
	}
	var want, got []string
	for _, s := range f.last() {
		if s.name == "EXPOSE" {
			want = append(want, s.words()...)
		}
	}
	for p := range maps.Keys(b.Config.ExposedPorts) {
		got = append(got, strings.TrimSuffix(p, "/tcp"))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		say("exposes %v, the Dockerfile %v: the base adds ports, or it has to be built again", got, want)
	}
	for _, e := range b.Config.Env {
		k, v, _ := strings.Cut(e, "=")
		if what := secretText(v); what != "" || secretSetting(k, v) {
			say("the environment has a secret: %s", k)
		}
	}
	if limit, err := parseSize(b.Config.Labels[sizeLabel]); err == nil && float64(b.Size) > limit {
		say("has %d MB, its label %s allows %s", b.Size/1e6, sizeLabel, strconv.Quote(b.Config.Labels[sizeLabel]))
	}
}
