package supervisor

import (
	"fmt"

	"github.com/inpod/inpod/supervisor/ini"
	"github.com/ochinchina/supervisord/types"
)

// State is a process state. The numbers are those of Supervisor's ProcessStates
// (supervisord.org/subprocess.html#process-states) and travel in getProcessInfo.
type State int

// The process states.
const (
	Stopped  State = 0
	Starting State = 10
	Running  State = 20
	Backoff  State = 30
	Stopping State = 40
	Exited   State = 100
	Fatal    State = 200
	Unknown  State = 1000
)

// String is the name that supervisorctl prints.
func (s State) String() string {
	switch s {
	case Stopped:
		return "STOPPED"
	case Starting:
		return "STARTING"
	case Running:
		return "RUNNING"
	case Backoff:
		return "BACKOFF"
	case Stopping:
		return "STOPPING"
	case Exited:
		return "EXITED"
	case Fatal:
		return "FATAL"
	}
	return "UNKNOWN"
}

// ProcessInfo is the struct of getProcessInfo (supervisord.org/api.html); times are Unix seconds.
type ProcessInfo = types.ProcessInfo

// ProcessStatus is one line of what startProcessGroup, stopAllProcesses and the like return.
type ProcessStatus struct {
	Name, Group string
	Status      FaultCode // Success, or why not
	Description string    // "OK", or the fault's text
}

// ConfigInfo is one struct of getAllConfigInfo, before it is put on the wire.
type ConfigInfo struct {
	Program       *ini.Program
	GroupPriority int
	InUse         bool
}

// FaultCode is an XML-RPC fault code of Supervisor (supervisord.org/api.html).
type FaultCode int

// Supervisor's fault codes.
const (
	UnknownMethod        FaultCode = 1
	IncorrectParameters  FaultCode = 2
	BadArguments         FaultCode = 3
	SignatureUnsupported FaultCode = 4
	ShutdownState        FaultCode = 6
	BadName              FaultCode = 10
	BadSignal            FaultCode = 11
	NoFile               FaultCode = 20
	NotExecutable        FaultCode = 21
	Failed               FaultCode = 30
	AbnormalTermination  FaultCode = 40
	SpawnError           FaultCode = 50
	AlreadyStarted       FaultCode = 60
	NotRunning           FaultCode = 70
	Success              FaultCode = 80
	AlreadyAdded         FaultCode = 90
	StillRunning         FaultCode = 91
	CantReread           FaultCode = 92
)

// String is the name in Supervisor's Faults class, which is the first word of a fault's text.
func (c FaultCode) String() string {
	if name, ok := faultNames[c]; ok {
		return name
	}
	return fmt.Sprintf("FAULT_%d", int(c))
}

var faultNames = map[FaultCode]string{
	UnknownMethod: "UNKNOWN_METHOD", IncorrectParameters: "INCORRECT_PARAMETERS", BadArguments: "BAD_ARGUMENTS",
	SignatureUnsupported: "SIGNATURE_UNSUPPORTED", ShutdownState: "SHUTDOWN_STATE", BadName: "BAD_NAME",
	BadSignal: "BAD_SIGNAL", NoFile: "NO_FILE", NotExecutable: "NOT_EXECUTABLE", Failed: "FAILED",
	AbnormalTermination: "ABNORMAL_TERMINATION", SpawnError: "SPAWN_ERROR", AlreadyStarted: "ALREADY_STARTED",
	NotRunning: "NOT_RUNNING", Success: "SUCCESS", AlreadyAdded: "ALREADY_ADDED", StillRunning: "STILL_RUNNING",
	CantReread: "CANT_REREAD",
}

// quotes tells that the fault repeats what the client wrote, be it nothing at all.
func (c FaultCode) quotes() bool { return c == BadName || c == BadSignal }

// Fault is the error of every control method: it goes to the client as it is.
type Fault struct {
	Code   FaultCode
	Detail string // what the fault is about, often the process name
}

// Error is the text of the fault, which is Supervisor's.
func (f *Fault) Error() string {
	if f.Detail == "" && !f.Code.quotes() {
		return f.Code.String()
	}
	return f.Code.String() + ": " + f.Detail
}
