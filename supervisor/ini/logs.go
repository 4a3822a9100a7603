package ini

import (
	"path"
	"strings"
)

// log reads the keys of one stream.
func (s *scope) log(log *Log, stream, program string) {
	key := stream + "_logfile"
	log.Backups = s.integer(key + "_backups")
	log.Maxbytes = s.bytes(key + "_maxbytes")
	log.Syslog = s.boolean(stream + "_syslog")
	log.SyslogFacility = s.oneOf("syslog_facility", syslogFacilities())
	log.SyslogPriority = s.oneOf("syslog_"+stream+"_priority", strings.Fields("emerg alert crit err warn notice info debug"))
	log.SyslogTag = s.plain("syslog_tag")
	log.File, log.Also = "AUTO", nil
	text, v := s.text(key)
	if v == nil {
		s.warnEndless(log, s.sec.name, key)
		return
	}
	// Supervisor expands this key a second time.
	text, ok := s.expand(v, text)
	if !ok {
		return
	}
	log.File = ""
	var targets []string
	for _, target := range splitTargets(text) {
		switch strings.ToLower(target) {
		case "none", "off", "":
		case "auto":
			targets = append(targets, "AUTO")
		case "syslog":
			log.Syslog = true
			s.l.warn(problemf(v.file, v.line, "[%s] %s=%s is the old way to say it: want %s_syslog=true", s.sec.name, v.key, quote(text), stream))
		default:
			if isSyslog, ok := s.remoteSyslog(v, target); isSyslog {
				if ok {
					log.Also = append(log.Also, target)
				}
				continue
			}
			if !isDescriptor(target) {
				target = s.dirPath(v, target)
			}
			targets = append(targets, target)
		}
	}
	if len(targets) > 0 {
		log.File = targets[0]
	}
	if len(targets) > 1 {
		log.Also = append(targets[1:], log.Also...)
	}
	s.warnEndless(log, s.sec.name, key)
}

// isDescriptor tells that a target stands for a descriptor of the agent's and is not opened: it needs no /dev.
func isDescriptor(target string) bool {
	target = path.Clean(target)
	return target == "/dev/stdout" || target == "/dev/stderr" ||
		strings.HasPrefix(target, "/dev/fd/") || strings.HasPrefix(target, "/proc/self/fd/")
}

// warnEndless warns of an AUTO file that would grow for ever.
func (s *scope) warnEndless(log *Log, sec, key string) {
	if log.File == "AUTO" && log.Maxbytes == 0 {
		v := s.find(key + "_maxbytes")
		if v == nil {
			return
		}
		s.l.warn(problemf(v.file, v.line, "[%s] %s=%s lets an AUTO log file grow for ever: want a size such as 50MB", sec, v.key, quote(v.text)))
	}
}

// splitTargets splits a list of targets at its commas.
func splitTargets(text string) []string {
	if !strings.Contains(text, ",") {
		return []string{text}
	}
	return listOfStrings(text)
}

// remoteSyslog checks "syslog @[udp:|tcp:]host[:port]".
func (s *scope) remoteSyslog(v *value, target string) (isSyslog, ok bool) {
	rest, found := strings.CutPrefix(target, "syslog")
	rest = strip(rest)
	if !found || !strings.HasPrefix(rest, "@") {
		return false, false
	}
	rest = rest[1:]
	for _, proto := range []string{"udp:", "tcp:"} {
		if r, ok := strings.CutPrefix(rest, proto); ok {
			rest = r
			break
		}
	}
	host, port, both := strings.Cut(rest, ":")
	if n, err := integer(port); host == "" || both && (err != nil || n < 1 || n > 65535) {
		s.bad(v, target, "syslog @host, syslog @udp:host:514 or syslog @tcp:host:6514")
		return true, false
	}
	return true, true
}

func syslogFacilities() []string {
	return strings.Fields(`kernel user mail daemon auth syslog lpr news uucp cron authpriv ftp
		local0 local1 local2 local3 local4 local5 local6 local7`)
}

// oneOf reads a word out of a list, in lower case; "" when the key is absent.
func (s *scope) oneOf(key string, words []string) string {
	text, v := s.text(key)
	if v == nil {
		return ""
	}
	for _, w := range words {
		if strings.EqualFold(text, w) {
			return w
		}
	}
	s.bad(v, text, "one of "+strings.Join(words, ", "))
	return ""
}
