package users

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Entry is what the files say of a user.
type Entry struct {
	Name     string
	UID, GID int
	Groups   []int // all of them, the own first
	Home     string
}

// Lookup finds user or user:group, by names or numbers. A number needs no entry; without one, and without a group, the
// group has the same number.
func (m *Maker) Lookup(s string) (Entry, error) {
	db, err := m.open()
	if err != nil {
		return Entry{}, err
	}
	user, group, both := strings.Cut(s, ":")
	e := Entry{Home: "/"}
	entry := db.passwd.find(user)
	if n, err := strconv.Atoi(user); entry == nil && err == nil {
		e.Name, e.UID, e.GID = user, n, n
		entry = db.passwd.byNumber(n)
	} else if entry == nil {
		return Entry{}, fmt.Errorf("there is no user %q", user)
	}
	if entry != nil {
		e.Name, e.Home = entry[0], entry[5]
		e.UID, _ = strconv.Atoi(entry[2])
		e.GID, _ = strconv.Atoi(entry[3])
	}
	if both {
		g := db.group.find(group)
		n, err := strconv.Atoi(group)
		switch {
		case g != nil:
			e.GID, _ = strconv.Atoi(g[2])
		case err == nil:
			e.GID = n
		default:
			return Entry{}, fmt.Errorf("there is no group %q", group)
		}
	}
	e.Groups = []int{e.GID}
	for _, l := range db.group.lines {
		if l.entry != nil && slices.Contains(strings.Split(l.entry[3], ","), e.Name) {
			if n, err := strconv.Atoi(l.entry[2]); err == nil && n != e.GID {
				e.Groups = append(e.Groups, n)
			}
		}
	}
	return e, nil
}
