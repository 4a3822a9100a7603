package agent

import (
	"strings"
	"syscall"

	"github.com/inpod/inpod/supervisor/ini"
)

// mainName is the name of the program after "--" in status and metrics.
const mainName = "main"

// mainStopSeconds is how long the main program may take to end after SIGTERM: what Kubernetes gives by default.
const mainStopSeconds = 30

// mainProgramOf makes a program of the command after "--". It is started once and never again: its end is the
// agent's.
func mainProgramOf(argv []string) *ini.Program {
	if len(argv) == 0 {
		return nil
	}
	return &ini.Program{
		Name: mainName, Group: mainName, Section: "the command after --",
		Command: strings.Join(argv, " "), Argv: argv,
		Umask: -1, Priority: 999, Autostart: true, Autorestart: ini.RestartNever,
		ExitCodes: []int{0}, StopSignals: []syscall.Signal{syscall.SIGTERM}, Stopwaitsecs: mainStopSeconds,
		UID: -1, GID: -1,
	}
}
