// Package proc is the only part of the binary that starts processes and the only one that waits for them.
//
// One [Reaper] exists per process. It owns SIGCHLD and wait4(-1), so it sees the end of every child: those it
// started, whose status it hands to their [Process], and those it inherited as PID 1 or as a subreaper, which it
// counts and forgets. Nothing else in the binary may call wait4, os/exec or os.StartProcess: a second waiter would
// steal statuses.
//
// A process identifier is only safe to signal while its owner has not been reaped. The table's lock makes that so:
// starting and signalling hold it for reading, reaping holds it for writing.
package proc
