package ini

import (
	"slices"
	"strings"
)

// Resolve gives the programs that a name in depends_on stands for: those of [program:name], of
// the group, or the one process written group:process. None means that there is no such name.
func (c *Config) Resolve(name string) []*Program {
	group, process, both := strings.Cut(name, ":")
	var bySection, byGroup []*Program
	for i := range c.Groups {
		g := &c.Groups[i]
		for j := range g.Programs {
			p := &g.Programs[j]
			_, section, _ := strings.Cut(p.Section, ":")
			switch {
			case both && g.Name == group && (process == p.Name || process == "*"):
				byGroup = append(byGroup, p)
			case !both && section == name:
				bySection = append(bySection, p)
			case !both && g.Name == name:
				byGroup = append(byGroup, p)
			}
		}
	}
	if len(bySection) > 0 {
		return bySection
	}
	return byGroup
}

// names tells whether some section, even one with mistakes, bears the name that depends_on uses, or its group part.
func (d *document) names(name string) bool {
	name, _, _ = strings.Cut(name, ":")
	for _, kind := range []string{kProgram, kGroup, kListener, kFastCGI} {
		if d.section(kind+":"+name) != nil {
			return true
		}
	}
	return false
}

// checkDependencies finds circles and, when every program could be read, processes of a group that do not exist. It
// goes by section, not by process: those of one section depend on the same.
func (l *loader) checkDependencies() {
	sections, first := l.dependable()
	bySection := map[string]*Program{}
	whole := len(l.errs) == 0
	for _, p := range first {
		bySection[p.Section] = p
		for _, name := range p.DependsOn {
			if whole && len(sections[name]) == 0 {
				l.fail(l.dependsProblem(p, "there is no program or group "+quote(name)+l.meantProgram(name)))
			}
		}
	}
	const open, done = 1, 2
	state := map[string]int{}
	var path []string
	var visit func(section string)
	visit = func(section string) {
		state[section] = open
		path = append(path, section)
		for _, name := range bySection[section].DependsOn {
			for _, on := range sections[name] {
				switch state[on] {
				case 0:
					visit(on)
				case open:
					l.fail(l.dependsProblem(bySection[on], "goes round in a circle: "+circle(path[slices.Index(path, on):])))
				}
			}
		}
		path = path[:len(path)-1]
		state[section] = done
	}
	for _, p := range first {
		if state[p.Section] == 0 {
			visit(p.Section)
		}
	}
}

// dependable maps each name that depends_on may use to its sections, as Resolve does, and lists
// one program of each section.
func (l *loader) dependable() (sections map[string][]string, first []*Program) {
	programs, groups := map[string][]string{}, map[string][]string{}
	add := func(m map[string][]string, name, section string) {
		if n := len(m[name]); n == 0 || m[name][n-1] != section {
			m[name] = append(m[name], section)
		}
	}
	seen := map[string]bool{}
	for i := range l.conf.Groups {
		g := &l.conf.Groups[i]
		for j := range g.Programs {
			p := &g.Programs[j]
			if !seen[p.Section] {
				seen[p.Section] = true
				first = append(first, p)
			}
			_, name, _ := strings.Cut(p.Section, ":")
			add(programs, name, p.Section)
			add(groups, g.Name, p.Section)
			add(groups, g.Name+":"+p.Name, p.Section)
			add(groups, g.Name+":*", p.Section)
		}
	}
	for name, on := range programs {
		groups[name] = on
	}
	return groups, first
}

func circle(path []string) string {
	names := make([]string, 0, len(path)+1)
	for _, section := range append(slices.Clip(path), path[0]) {
		_, name, _ := strings.Cut(section, ":")
		names = append(names, name)
	}
	return strings.Join(names, " → ")
}

func (l *loader) dependsProblem(p *Program, msg string) Problem {
	file, line, key := p.File, p.Line, "depends_on"
	if sec := l.doc.section(p.Section); sec != nil {
		if v := l.programScope(sec, nil).find("depends_on"); v != nil {
			file, line, key = v.file, v.line, v.key
		}
	}
	return problemf(file, line, "[%s] %s=%s: %s", p.Section, key, quote(strings.Join(p.DependsOn, ",")), msg)
}
