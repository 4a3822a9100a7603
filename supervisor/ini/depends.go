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

// checkDependencies finds names that do not exist and circles.
func (l *loader) checkDependencies() {
	edges := map[*Program][]*Program{}
	var order []*Program
	for i := range l.conf.Groups {
		for j := range l.conf.Groups[i].Programs {
			p := &l.conf.Groups[i].Programs[j]
			order = append(order, p)
			for _, name := range p.DependsOn {
				on := l.conf.Resolve(name)
				if len(on) == 0 {
					l.fail(l.dependsProblem(p, "there is no program or group "+quote(name)+l.meantProgram(name)))
				}
				edges[p] = append(edges[p], on...)
			}
		}
	}
	const open, done = 1, 2
	state := map[*Program]int{}
	var path []*Program
	var visit func(p *Program)
	visit = func(p *Program) {
		state[p] = open
		path = append(path, p)
		for _, on := range edges[p] {
			switch state[on] {
			case 0:
				visit(on)
			case open:
				l.fail(l.dependsProblem(on, "goes round in a circle: "+circle(path[slices.Index(path, on):])))
			}
		}
		path = path[:len(path)-1]
		state[p] = done
	}
	for _, p := range order {
		if state[p] == 0 && len(edges[p]) > 0 {
			visit(p)
		}
	}
}

func circle(path []*Program) string {
	var names []string
	for _, p := range append(slices.Clip(path), path[0]) {
		_, name, _ := strings.Cut(p.Section, ":")
		names = append(names, name)
	}
	return strings.Join(slices.Compact(names), " → ")
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
