package main

import (
	"regexp"
	"strings"
)

// settings looks for secrets in ENV, ARG and LABEL.
func settings(f *file) (faults []fault) {
	for _, s := range f.steps {
		if s.name != "ENV" && s.name != "ARG" && s.name != "LABEL" {
			continue
		}
		for k, v := range s.pairs() {
			switch what := secretText(v); {
			case what != "":
				faults = append(faults, f.at(s.line, "%s %s holds %s", s.name, k, what))
			case secretSetting(k, v):
				faults = append(faults, f.at(s.line, "%s %s=… is the same in every container, and everybody who has the image can read it", s.name, k))
			case s.name == "ARG" && secretName.MatchString(k) && !harmlessName.MatchString(k):
				faults = append(faults, f.at(s.line, "ARG %s ends up in the history of the image", k))
			}
		}
	}
	return faults
}

var (
	download = regexp.MustCompile(`\b(curl|wget)\b[^;&|]*\b(https?|ftp)://|\b(curl|wget)\b[^;&|]*\$\{?[A-Za-z_]*URL`)
	summed   = regexp.MustCompile(`\b(sha(256|384|512)sum|b2sum)\s+(-\S+\s+)*(-c|--check)\b|\bgpgv?\b.*--verify|--hash=`)
	aptGet   = regexp.MustCompile(`\bapt(-get)?\b[^;&|]*\binstall\b([^;&|]*)`)
	aptLists = regexp.MustCompile(`\brm\s+-rf?\s+[^;&|]*/var/lib/apt/lists`)
)

// commands looks at what RUN does.
func commands(f *file) (faults []fault) {
	last := -1
	if steps := f.last(); len(steps) > 0 {
		last = steps[0].stage
	}
	for _, s := range f.steps {
		if s.name != "RUN" && s.name != "CMD" && s.name != "HEALTHCHECK" {
			continue
		}
		text := strings.Join(s.words(), " ")
		say := func(format string, args ...any) { faults = append(faults, f.at(s.line, format, args...)) }
		if fetchedAndRun(text) {
			say("fetches and runs something that nobody has seen; download a version, check its sum, then run it")
		} else if s.name == "RUN" && download.MatchString(text) && !summed.MatchString(text) {
			say("a download without a checksum: echo \"SUM  FILE\" | sha256sum -c")
		}
		if setsPassword.MatchString(text) {
			say("sets a password that is the same in every container")
		}
		if what := secretText(text); what != "" {
			say("holds %s", what)
		}
		installs := aptGet.FindAllStringSubmatch(text, -1)
		for _, m := range installs {
			if !strings.Contains(m[0], "--no-install-recommends") {
				say("apt-get install without --no-install-recommends")
			}
			if !regexp.MustCompile(`\s(-y|-qqy|-qy|-yq|--yes|-yqq)\b`).MatchString(m[0]) {
				say("apt-get install without -y waits for an answer")
			}
		}
		if len(installs) > 0 && !aptLists.MatchString(text) && s.stage == last {
			say("leaves apt's lists in the layer: && rm -rf /var/lib/apt/lists/*")
		}
		if len(installs) > 0 && !regexp.MustCompile(`\bapt(-get)?\b[^;&|]*\bupdate\b`).MatchString(text) {
			say("apt-get install without apt-get update in the same RUN works only as long as the cache does")
		}
		if regexp.MustCompile(`\bpip3?\s+install\b`).MatchString(text) && !strings.Contains(text, "--no-cache-dir") && s.stage == last {
			say("pip install without --no-cache-dir leaves its cache in the layer")
		}
		if regexp.MustCompile(`\bchmod\s+(-R\s+)?(0?777|a\+rwx|o\+w)\b`).MatchString(text) {
			say("makes files that everybody can write")
		}
	}
	return faults
}
