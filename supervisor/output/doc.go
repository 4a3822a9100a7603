// Package output takes what a program writes to its targets.
//
// Start at [Hub]: one a process. [Hub.Open] opens the targets of one stream of one run of a program and makes the
// pipe whose write end goes to the child; [Stream.Drain] ends it once the child is gone. While a program is silent
// its stream costs a few hundred bytes: one goroutine waits for all pipes, and only a stream with something to read
// gets a goroutine and a buffer.
//
// Targets are rotating files, the agent's own stdout and stderr, devices and FIFOs, and syslog. On the way a stream
// can be stripped of ANSI escapes, searched for Supervisor's capture tokens, split into lines, and given a prefix or
// wrapped as JSON. A target that fails never stops the program: what could not be written is counted, the failure
// is logged when it begins and when it ends, and every later write tries again.
//
// The package also has what the control interface needs of log files: [ReadFile], [TailFile] and [Follow], and
// [MainLog], the agent's own log.
//
// It does not know about programs' states, events or configuration: the caller says what to open and is called back
// with what was seen.
package output
