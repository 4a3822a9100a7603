package main

import (
	"fmt"
	"regexp"
	"strings"
)

// tag is what a version such as ollama0.3.11-python3.11-cuda12.1.0-runtime-ubuntu22.04 says.
type tag struct {
	service, version string
	python           string // 3.11
	cuda, flavour    string // 12.1.0, runtime
	cpu              bool   // says that there is no CUDA
	os, release      string // ubuntu, 22.04
}

var (
	service   = regexp.MustCompile(`^([a-z][a-z_]*)([0-9][0-9a-z]*(?:\.[0-9a-z]+)*)$`)
	python    = regexp.MustCompile(`^python([23]\.[0-9]+)$`)
	cuda      = regexp.MustCompile(`^cuda([0-9]+\.[0-9]+(?:\.[0-9]+)?)$`)
	system    = regexp.MustCompile(`^(debian|ubuntu|alpine|openeuler|rocky|centos|fedora)([0-9]+(?:\.[0-9]+)*)$`)
	flavours  = map[string]bool{"base": true, "runtime": true, "devel": true, "cudnn": true}
	formOfTag = "SERVICE+VERSION[-pythonX.Y][-cudaX.Y.Z[-base|-runtime|-devel]|-cpu]-OS+RELEASE, such as jupyter6.4-python3.11-debian12"
)

// parseTag takes a version apart. The system is missing only where there is none: in an image from scratch.
func parseTag(text string, scratch bool) (t tag, err error) {
	bad := func(format string, args ...any) (tag, error) {
		return t, fmt.Errorf("the version %q %s; its form is %s", text, fmt.Sprintf(format, args...), formOfTag)
	}
	first, rest, _ := strings.Cut(text, "-")
	m := service.FindStringSubmatch(first)
	if m == nil {
		return bad("does not begin with a service and its version")
	}
	t.service, t.version = m[1], m[2]
	if scratch {
		return t, nil // what follows is a build's commit
	}
	for part := range strings.SplitSeq(rest, "-") {
		switch {
		case t.os != "":
			return bad("goes on after the system: %q", part)
		case part == "":
			return bad("says nothing of the system")
		case python.MatchString(part) && t.python == "" && t.cuda == "":
			t.python = python.FindStringSubmatch(part)[1]
		case cuda.MatchString(part) && t.cuda == "" && !t.cpu:
			t.cuda = cuda.FindStringSubmatch(part)[1]
		case part == "cpu" && t.cuda == "" && !t.cpu:
			t.cpu = true
		case flavours[part] && t.cuda != "" && t.flavour == "":
			t.flavour = part
		case system.MatchString(part):
			m := system.FindStringSubmatch(part)
			t.os, t.release = m[1], m[2]
		default:
			return bad("has %q where it is not known, or not in its place", part)
		}
	}
	if t.os == "" {
		return bad("says nothing of the system")
	}
	if len(text) > 128 {
		return bad("has more than 128 letters")
	}
	return t, nil
}
