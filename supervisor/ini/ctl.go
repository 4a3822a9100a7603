package ini

import "path/filepath"

// LoadCtl reads the [supervisorctl] section of one file, and nothing else of it: a control client must
// work while a program's section is wrong. Includes are not followed, as supervisorctl does not. found
// is false when there is no such section. The error is a Problems.
func LoadCtl(path string, env map[string]string) (c Ctl, found bool, err error) {
	l := newLoader(Options{Main: path, Env: env})
	l.here = filepath.Dir(absolute(path))
	if !l.readFile(path, true) {
		return Ctl{}, false, Problems(l.errs)
	}
	if l.doc.section(kCtl) == nil {
		return Ctl{}, false, nil
	}
	l.doc.expandHere(l.here)
	l.ctl()
	return l.conf.Ctl, true, nil
}
