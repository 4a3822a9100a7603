package agent

import "github.com/inpod/inpod/supervisor/ini"

// SupervisordFlags are supervisord's command line flags: what is set here wins over [supervisord] in the file, now
// and after a reread. A nil pointer and a false flag leave the file's value.
type SupervisordFlags struct {
	Logfile, Loglevel, Pidfile, Identifier *string
	Childlogdir, User, Directory           *string
	LogfileMaxbytes                        *int64 // bytes; 0 = never rotate
	LogfileBackups, Minfds, Minprocs       *int
	Umask                                  *int
	Nodaemon, Silent, Nocleanup, StripANSI bool
}

// apply puts the flags over a [supervisord] section.
func (f *SupervisordFlags) apply(s *ini.Supervisord) {
	if f == nil {
		return
	}
	override(&s.Logfile, f.Logfile)
	override(&s.Loglevel, f.Loglevel)
	override(&s.Pidfile, f.Pidfile)
	override(&s.Identifier, f.Identifier)
	override(&s.Childlogdir, f.Childlogdir)
	override(&s.User, f.User)
	override(&s.Directory, f.Directory)
	override(&s.LogfileMaxbytes, f.LogfileMaxbytes)
	override(&s.LogfileBackups, f.LogfileBackups)
	override(&s.Minfds, f.Minfds)
	override(&s.Minprocs, f.Minprocs)
	override(&s.Umask, f.Umask)
	s.Nodaemon = s.Nodaemon || f.Nodaemon
	s.Silent = s.Silent || f.Silent
	s.Nocleanup = s.Nocleanup || f.Nocleanup
	s.StripANSI = s.StripANSI || f.StripANSI
}

func override[T any](to *T, flag *T) {
	if flag != nil {
		*to = *flag
	}
}
