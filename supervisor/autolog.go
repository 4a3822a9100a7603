package supervisor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/inpod/inpod/supervisor/ini"
)

// auto tells whether a logfile key says that the name is ours to choose.
func auto(file string) bool { return strings.EqualFold(file, "AUTO") }

func (s *Supervisor) childlogdir() string {
	if dir := s.opt.Config.Supervisord.Childlogdir; dir != "" {
		return dir
	}
	return os.TempDir()
}

// nameAutoLogs returns the programs with files for those streams whose logfile is AUTO.
func (s *Supervisor) nameAutoLogs(programs []ini.Program) []ini.Program {
	programs = slices.Clone(programs)
	for i := range programs {
		s.nameAutoLog(&programs[i])
	}
	return programs
}

// nameAutoLog names the files of one program. A directory that cannot be written to leaves a stream without a file: it
// is no reason not to run the program.
func (s *Supervisor) nameAutoLog(p *ini.Program) {
	for _, l := range []struct {
		channel string
		log     *ini.Log
	}{{"stdout", &p.Stdout}, {"stderr", &p.Stderr}} {
		if !auto(l.log.File) {
			continue
		}
		l.log.File = ""
		if l.channel == "stderr" && p.RedirectStderr {
			continue
		}
		f, err := os.CreateTemp(s.childlogdir(), p.Name+"-"+l.channel+"---"+s.bus.identifier+"-*.log")
		if err != nil {
			s.log.Warn("cannot make an AUTO log file", "program", p.Name, "channel", l.channel, "error", err)
			continue
		}
		l.log.File = f.Name()
		_ = f.Close()
	}
}

// clearAutoLogs removes the AUTO log files of earlier runs with the same identifier.
func (s *Supervisor) clearAutoLogs() {
	dir := s.childlogdir()
	old := regexp.MustCompile(`^.+?---` + regexp.QuoteMeta(s.bus.identifier) + `-\S+\.log\.?\d{0,4}`)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return // an image without /tmp has no old files, and where there are no programs nobody misses it
	}
	if err != nil {
		s.log.Warn("cannot clear old log files", "error", err)
		return
	}
	for _, e := range entries {
		if !old.MatchString(e.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			s.log.Warn("cannot clear an old log file", "error", err)
		}
	}
}
