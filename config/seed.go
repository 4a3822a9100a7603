package config

import (
	"path/filepath"
	"strconv"
	"strings"
)

// Seed is one entry of seed.
type Seed struct {
	From     string `key:"from" required:"true" check:"realpath" expand:"env" doc:"Directory of the image whose content is copied."`
	To       string `key:"to" required:"true" check:"realpath" expand:"env" doc:"Directory that gets it, when it is empty (lost+found does not count) or missing: a volume that was just made. One with anything in it is left alone."`
	Owner    string `key:"owner" default:"" check:"owner" expand:"env" doc:"user, user:group or their numbers, for everything that is copied and for seed[].to. Empty: as in the image. Needs root."`
	Mode     string `key:"mode" default:"" check:"mode" doc:"Mode of seed[].to itself, such as 0750. Empty: that of seed[].from."`
	Required bool   `key:"required" default:"false" doc:"A copy that fails (the volume is full or read-only) ends the agent. When false the programs are started without it; the log, /readyz?verbose and the metrics say so."`
}

// checkSeed applies the rules that concern several keys.
func (c *Config) checkSeed(report reporter) {
	seen := map[string]int{}
	for i, s := range c.Seed {
		at := "seed[" + strconv.Itoa(i) + "]"
		from, to := filepath.Clean(s.From), filepath.Clean(s.To)
		switch first, dup := seen[to]; {
		case s.From == "" || s.To == "":
		case dup:
			report(at+".to", "%q is that of seed[%d] too; the second would find it filled", clip(s.To), first)
		case within(from, to) || within(to, from):
			report(at+".to", "%q and seed[%d].from (%q) lie in each other; keep the image's copy elsewhere, such as /opt/seed", clip(s.To), i, clip(s.From))
		}
		seen[to] = i
	}
}

// within tells whether path is dir or lies in it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
