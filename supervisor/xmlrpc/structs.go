package xmlrpc

import (
	"github.com/inpod/inpod/supervisor"
	"github.com/inpod/inpod/supervisor/ini"
)

// processStruct is getProcessInfo's answer, with the fields in Supervisor's order.
func processStruct(p supervisor.ProcessInfo) Struct {
	return Struct{
		{"name", p.Name},
		{"group", p.Group},
		{"start", p.Start},
		{"stop", p.Stop},
		{"now", p.Now},
		{"state", p.State},
		{"statename", p.Statename},
		{"spawnerr", p.Spawnerr},
		{"exitstatus", p.Exitstatus},
		{"logfile", p.Logfile},
		{"stdout_logfile", p.StdoutLogfile},
		{"stderr_logfile", p.StderrLogfile},
		{"pid", p.Pid},
		{"description", p.Description},
	}
}

// configStruct is one answer of getAllConfigInfo. XML-RPC had no null, so Supervisor writes "none", and "auto" for AUTO.
func configStruct(c supervisor.ConfigInfo) Struct {
	p := c.Program
	var uid any = "none"
	if p.UID >= 0 {
		uid = p.UID
	}
	exitcodes := p.ExitCodes
	if exitcodes == nil {
		exitcodes = []int{}
	}
	stopsignal := 15
	if len(p.StopSignals) > 0 {
		stopsignal = int(p.StopSignals[0])
	}
	return Struct{
		{"autostart", p.Autostart},
		{"directory", orNone(p.Directory)},
		{"uid", uid},
		{"command", p.Command},
		{"exitcodes", exitcodes},
		{"group", p.Group},
		{"group_prio", c.GroupPriority},
		{"inuse", c.InUse},
		{"killasgroup", p.Killasgroup},
		{"name", p.Name},
		{"process_prio", p.Priority},
		{"redirect_stderr", p.RedirectStderr},
		{"startretries", p.Startretries},
		{"startsecs", p.Startsecs},
		{"stdout_capture_maxbytes", p.Stdout.CaptureMaxbytes},
		{"stdout_events_enabled", p.Stdout.EventsEnabled},
		{"stdout_logfile", logfile(p.Stdout)},
		{"stdout_logfile_backups", p.Stdout.Backups},
		{"stdout_logfile_maxbytes", p.Stdout.Maxbytes},
		{"stdout_syslog", p.Stdout.Syslog},
		{"stopsignal", stopsignal},
		{"stopwaitsecs", p.Stopwaitsecs},
		{"stderr_capture_maxbytes", p.Stderr.CaptureMaxbytes},
		{"stderr_events_enabled", p.Stderr.EventsEnabled},
		{"stderr_logfile", logfile(p.Stderr)},
		{"stderr_logfile_backups", p.Stderr.Backups},
		{"stderr_logfile_maxbytes", p.Stderr.Maxbytes},
		{"stderr_syslog", p.Stderr.Syslog},
		{"serverurl", autoOr(p.ServerURL)},
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func autoOr(s string) string {
	if s == "AUTO" {
		return "auto"
	}
	return orNone(s)
}

func logfile(l ini.Log) string { return autoOr(l.File) }
