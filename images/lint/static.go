package main

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	versionLabel = "org.opencontainers.image.version"
	sizeLabel    = "inpod.dev/max-size"
	rootLabel    = "inpod.dev/root"
	adminPort    = 9880
	maxLayers    = 12
)

var wanted = []string{
	"org.opencontainers.image.title", "org.opencontainers.image.description", "org.opencontainers.image.source",
	"org.opencontainers.image.licenses", versionLabel, sizeLabel,
}

// static looks at images/NAME as it lies in the repository.
func static(root fs.FS, name string) (*file, []fault, error) {
	dir := path.Join("images", name)
	f := &file{name: name, path: dir + "/Dockerfile", labels: map[string]string{}, lines: map[string]int{}}
	text, err := fs.ReadFile(root, f.path)
	if err != nil {
		return f, nil, err
	}
	steps, directives, err := parse(string(text))
	if err != nil {
		line, what, _ := strings.Cut(err.Error(), ": ")
		n, _ := strconv.Atoi(line)
		return f, []fault{f.at(n, "%s", what)}, nil
	}
	f.steps = steps
	for _, s := range f.last() {
		if s.name != "LABEL" {
			continue
		}
		for k, v := range s.pairs() {
			f.labels[k], f.lines[k] = v, s.line
		}
	}
	var faults []fault
	for d, line := range directives {
		faults = append(faults, f.at(line, "# %s= is read by BuildKit only", d))
	}
	for _, rule := range []func(*file) []fault{stages, builders, entrypoint, user, labels, layers, settings, commands} {
		faults = append(faults, rule(f)...)
	}
	faults = append(faults, f.folder(root, dir)...)
	more, err := f.ports(root, dir)
	return f, append(faults, more...), err
}

func (f *file) scratch() bool {
	from, ok := f.one("FROM")
	return ok && strings.EqualFold(strings.Fields(from.text + " ")[0], "scratch")
}

// stages holds where an image comes from against rule 1.
func stages(f *file) (faults []fault) {
	args := map[string]string{}
	for _, s := range f.before() {
		for k, v := range s.pairs() {
			args[k] = v
			if v == "" {
				faults = append(faults, f.at(s.line, "ARG %s needs a default, so that docker build works without arguments", k))
			}
		}
	}
	names := map[string]bool{"scratch": true}
	for _, s := range f.steps {
		switch s.name {
		case "FROM":
			w := strings.Fields(s.text)
			if len(w) == 0 {
				faults = append(faults, f.at(s.line, "FROM what?"))
				continue
			}
			if v := variable.FindString(w[0]); v != w[0] && !names[strings.ToLower(w[0])] {
				faults = append(faults, f.at(s.line, "FROM %s cannot be replaced: ARG BASE_IMAGE=%s before the first FROM, and FROM ${BASE_IMAGE}", w[0], w[0]))
			} else if _, ok := args[strings.Trim(w[0], "${}")]; v != "" && v == w[0] && !ok {
				faults = append(faults, f.at(s.line, "%s has no ARG before the first FROM", w[0]))
			}
			if len(w) == 3 && strings.EqualFold(w[1], "AS") {
				names[strings.ToLower(w[2])] = true
			}
		case "COPY", "ADD":
			from, ok := s.flag("from")
			if ok && !names[strings.ToLower(from)] {
				faults = append(faults, f.at(s.line, "--from=%s is no stage of this file; the old builder takes no other image or argument there", from))
			}
		}
	}
	if f.name != "base" {
		for _, a := range []string{"BASE_IMAGE", "INPOD_IMAGE"} {
			if args[a] == "" {
				faults = append(faults, f.at(1, "there is no ARG %s before the first FROM", a))
			}
		}
	}
	return faults
}

var heredoc = regexp.MustCompile(`<<-?["']?[A-Za-z_]`)

// builders refuses what only some builders know.
func builders(f *file) (faults []fault) {
	for _, s := range f.steps {
		allowed := []string{"--from=", "--chown="}
		switch s.name {
		case "FROM":
			allowed = []string{"--platform=$TARGETPLATFORM"}
		case "HEALTHCHECK":
			continue
		case "RUN":
			allowed = nil
		case "ADD":
			allowed = allowed[1:]
		}
		for _, flag := range s.flags {
			if !slices.ContainsFunc(allowed, func(a string) bool { return strings.HasPrefix(flag, a) }) {
				faults = append(faults, f.at(s.line, "%s %s is not known to every builder (legacy docker, BuildKit, buildah, Kaniko)", s.name, flag))
			}
		}
		if (s.name == "RUN" || s.name == "COPY" || s.name == "ADD") && heredoc.MatchString(s.text) {
			faults = append(faults, f.at(s.line, "a here-document is not known to every builder; COPY a file"))
		}
		if s.name == "ADD" && strings.Contains(s.text, "://") {
			faults = append(faults, f.at(s.line, "ADD fetches a URL without a checksum; RUN curl -fsSLO … && echo \"SUM  FILE\" | sha256sum -c"))
		}
		if s.name == "ONBUILD" || s.name == "MAINTAINER" {
			faults = append(faults, f.at(s.line, "%s is not used here", s.name))
		}
	}
	return faults
}

func entrypoint(f *file) (faults []fault) {
	const first = "inpod"
	e, ok := f.one("ENTRYPOINT")
	if !ok {
		return []fault{f.at(0, "there is no ENTRYPOINT [%q, \"run\"] in the last stage", first)}
	}
	if list, ok := e.list(); !ok || len(list) < 2 || path.Base(list[0]) != first || list[1] != "run" {
		faults = append(faults, f.at(e.line, "ENTRYPOINT %s: want [%q, \"run\"], so that inpod is PID 1", e.text, first))
	}
	if c, ok := f.one("CMD"); ok {
		if list, ok := c.list(); !ok || len(list) > 0 && !strings.HasPrefix(list[0], "-") {
			faults = append(faults, f.at(c.line, "CMD %s comes after inpod run: write [\"--\", \"command\", …] for a main program", c.text))
		}
	}
	return faults
}

func user(f *file) []fault {
	u, ok := f.one("USER")
	if why := f.label(rootLabel); why != "" {
		if ok && !rootUser(u.text) {
			return []fault{f.at(f.lines[rootLabel], "the label %s, but the user is %s", rootLabel, u.text)}
		}
		if len(strings.Fields(why)) < 3 {
			return []fault{f.at(f.lines[rootLabel], "the label %s says why in a few words", rootLabel)}
		}
		return nil
	}
	switch {
	case f.scratch() && !ok: // has nothing to protect, and its user is said by whoever runs it
		return nil
	case !ok:
		return []fault{f.at(0, "no USER: want a number such as USER 1000:1000, or the label %s=\"why\"", rootLabel)}
	case rootUser(u.text):
		return []fault{f.at(u.line, "USER %s is root: say why in the label %s", u.text, rootLabel)}
	case !regexp.MustCompile(`^[1-9][0-9]*(:[0-9]+)?$`).MatchString(u.text):
		return []fault{f.at(u.line, "USER %s: Kubernetes' runAsNonRoot wants a number", u.text)}
	}
	return nil
}

func rootUser(u string) bool {
	name, _, _ := strings.Cut(u, ":")
	return name == "" || name == "root" || name == "0"
}

func labels(f *file) (faults []fault) {
	for _, l := range wanted {
		if f.label(l) == "" && (l != sizeLabel || !f.scratch()) {
			faults = append(faults, f.at(0, "the label %s is missing", l))
		}
	}
	version := expand(f.label(versionLabel), f.args())
	if t, err := parseTag(version, f.scratch()); version != "" && err != nil {
		faults = append(faults, f.at(f.lines[versionLabel], "%v", err))
	} else if version != "" && t.service != f.name && !strings.HasPrefix(f.name, t.service) {
		faults = append(faults, f.at(f.lines[versionLabel], "the version %q is of %q, the image is %s", version, t.service, f.name))
	}
	if s := f.label(sizeLabel); s != "" {
		if n, err := parseSize(s); err != nil {
			faults = append(faults, f.at(f.lines[sizeLabel], "the label %s: %v", sizeLabel, err))
		} else if n > 50e9 {
			faults = append(faults, f.at(f.lines[sizeLabel], "%s is more than platforms take (50 GB)", s))
		}
	}
	return faults
}

// parseSize reads 400MB, 1.5GB.
func parseSize(text string) (float64, error) {
	m := regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)(MB|GB)$`).FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%q is no size such as 400MB or 2.5GB", text)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if m[2] == "GB" {
		n *= 1000
	}
	return n * 1e6, err
}

// layers counts those that the last stage makes.
func layers(f *file) []fault {
	n, line := 0, 0
	for _, s := range f.last() {
		if s.name == "RUN" || s.name == "COPY" || s.name == "ADD" {
			if n++; n == maxLayers+1 {
				line = s.line
			}
		}
	}
	if n > maxLayers {
		return []fault{f.at(line, "%d layers, at most %d: join RUN with &&, and COPY one tree", n, maxLayers)}
	}
	return nil
}

// folder looks at what lies beside the Dockerfile.
func (f *file) folder(root fs.FS, dir string) (faults []fault) {
	if f.name == "base" {
		return nil
	}
	if _, err := fs.Stat(root, dir+"/README.md"); err != nil {
		faults = append(faults, fault{dir + "/README.md", 0, "is missing: what the image serves, and on which port"})
	}
	if info, err := fs.Stat(root, dir+"/test"); err != nil || info.Mode()&0o111 == 0 {
		faults = append(faults, fault{dir + "/test", 0, "there is no such executable, which would show that the image does what its README says"})
	}
	programs := 0 // of which there are none where the agent alone is what is served
	err := fs.WalkDir(root, dir+"/root", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		inside := strings.TrimPrefix(name, dir+"/root")
		for _, glob := range []string{"/etc/supervisord/*.ini", "/etc/supervisor/conf.d/*.conf", "/etc/inpod/programs/*.ini"} {
			if ok, _ := path.Match(glob, inside); ok {
				programs++
			}
		}
		if why := secretFile(inside); why != "" {
			faults = append(faults, fault{name, 0, why})
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		for i, line := range strings.Split(string(text), "\n") {
			if fetchedAndRun(line) {
				faults = append(faults, fault{name, i + 1, "fetches and runs something that nobody has seen"})
			}
			if setsPassword.MatchString(line) && regexp.MustCompile(`echo\s+["']?\w+:[^$]`).MatchString(line) {
				faults = append(faults, fault{name, i + 1, "sets a password that is the same in every container"})
			}
		}
		if what := secretText(string(text)); what != "" {
			faults = append(faults, fault{name, 0, "holds " + what})
		}
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		faults = append(faults, fault{dir + "/root", 0, err.Error()})
	}
	if _, err := fs.Stat(root, dir+"/root/etc/inpod/inpod.yaml"); err != nil && programs == 0 {
		faults = append(faults, fault{dir + "/root", 0, "has neither programs (etc/supervisord/" + f.name + ".ini) nor settings (etc/inpod/inpod.yaml)"})
	}
	return faults
}

// ports holds EXPOSE against the routes.
func (f *file) ports(root fs.FS, dir string) (faults []fault, err error) {
	exposed := map[int]int{}
	for _, s := range f.last() {
		if s.name != "EXPOSE" {
			continue
		}
		for _, w := range s.words() {
			number, protocol, _ := strings.Cut(w, "/")
			n, err := strconv.Atoi(number)
			if err != nil || protocol == "udp" {
				faults = append(faults, f.at(s.line, "EXPOSE %s: want TCP ports, one by one", w))
				continue
			}
			exposed[n] = s.line
		}
	}
	want := map[int]string{adminPort: "of health and metrics"}
	for _, listen := range listens(root, dir+"/root/etc/inpod/inpod.yaml", &faults) {
		_, port, err := net.SplitHostPort(listen)
		n, bad := strconv.Atoi(port)
		if err != nil || bad != nil {
			faults = append(faults, fault{dir + "/root/etc/inpod/inpod.yaml", 0, fmt.Sprintf("listen: %q is no address with a port", listen)})
			continue
		}
		want[n] = "of a route"
	}
	line := 0
	if e, ok := f.one("EXPOSE"); ok {
		line = e.line
	}
	for n, what := range want {
		if exposed[n] == 0 {
			faults = append(faults, f.at(line, "the port %d %s is not in EXPOSE", n, what))
		}
	}
	if exposed[22] != 0 && exposed[2222] != 0 {
		faults = append(faults, f.at(exposed[22], "SSH is on 22 as root and on 2222 otherwise: not both"))
	}
	readme, _ := fs.ReadFile(root, dir+"/README.md") // its absence is another fault
	for n, line := range exposed {
		if _, ok := want[n]; !ok && !regexp.MustCompile(`\b`+strconv.Itoa(n)+`\b`).Match(readme) {
			faults = append(faults, f.at(line, "EXPOSE %d: the README does not say what that port is", n))
		}
	}
	slices.SortFunc(faults, func(a, b fault) int { return strings.Compare(a.String(), b.String()) })
	return faults, nil
}

// listens are the addresses of the routes.
func listens(root fs.FS, name string, faults *[]fault) (found []string) {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return nil // every key has a default, and without routes there is none
	}
	var config struct {
		Proxy struct {
			Routes []struct {
				Listen string `yaml:"listen"`
			} `yaml:"routes"`
		} `yaml:"proxy"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		*faults = append(*faults, fault{name, 0, err.Error()})
	}
	for _, r := range config.Proxy.Routes {
		if r.Listen != "" {
			found = append(found, r.Listen)
		}
	}
	return found
}
