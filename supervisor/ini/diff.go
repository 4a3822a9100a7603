package ini

import (
	"maps"
	"reflect"
	"slices"
)

// Diff compares groups that run with groups that a new Config has, as reread reports them. The
// names are in the order of the new groups, the removed ones in the order of the old.
func Diff(active, next []Group) (added, changed, removed []string) {
	old := map[string]*Group{}
	for i := range active {
		old[active[i].Name] = &active[i]
	}
	for i := range next {
		g, had := old[next[i].Name]
		switch {
		case !had:
			added = append(added, next[i].Name)
		case !g.Equal(&next[i]):
			changed = append(changed, next[i].Name)
		}
	}
	for i := range active {
		if !slices.ContainsFunc(next, func(g Group) bool { return g.Name == active[i].Name }) {
			removed = append(removed, active[i].Name)
		}
	}
	return added, changed, removed
}

// Diff is what changes when c takes the place of old; a nil old has nothing.
func (c *Config) Diff(old *Config) (added, changed, removed []string) {
	if old == nil {
		return Diff(nil, c.Groups)
	}
	return Diff(old.Groups, c.Groups)
}

// Equal tells whether o, the newer of two groups, would run as g does. A [program:x] and a [group:x] of it are the same.
func (g *Group) Equal(o *Group) bool {
	plain := func(k GroupKind) bool { return k == KindProgram || k == KindGroup }
	if g.Name != o.Name || g.Priority != o.Priority || g.Kind != o.Kind && !(plain(g.Kind) && plain(o.Kind)) {
		return false
	}
	if !slices.EqualFunc(g.Programs, o.Programs, func(a, b Program) bool { return a.Equal(&b) }) {
		return false
	}
	events := slices.Equal(slices.Sorted(slices.Values(g.Events)), slices.Sorted(slices.Values(o.Events)))
	return events && g.BufferSize == o.BufferSize && g.ResultHandler == o.ResultHandler && g.Socket == o.Socket
}

// Equal compares p with o, the newer of the two, by what Supervisor compares and by the keys
// beyond it: everything but the place in the files. A log file that is AUTO in the newer
// counts as equal to any, since the running program's has been given a name by then.
func (p *Program) Equal(o *Program) bool {
	a, b := *p, *o
	a.Section, a.File, a.Line = b.Section, b.File, b.Line
	a.Group = b.Group
	a.User, a.Groups = b.User, b.Groups // the ids count
	a.Argv = b.Argv                     // Command counts
	if !maps.Equal(a.Environment, b.Environment) {
		return false
	}
	a.Environment = b.Environment
	for _, logs := range [][2]*Log{{&a.Stdout, &b.Stdout}, {&a.Stderr, &b.Stderr}} {
		if logs[1].File == "AUTO" {
			logs[0].File = "AUTO"
		}
	}
	return reflect.DeepEqual(a, b)
}
