package ctl

import "strings"

const helpTopics = `
default commands (type help <topic>):
=====================================
add    exit      open  reload  restart   start   tail   
avail  fg        pid   remove  shutdown  status  update 
clear  maintail  quit  reread  signal    stop    version
`

const ownTopics = `
inpod commands (type help <topic>):
===================================
drain  phase  routes  sessions
`

// help prints the topics, or the help of one action. Supervisor's help says what it says, so the
// spaces at line ends stay.
func (c *Controller) help(arg string) {
	switch arg {
	case "":
		c.output(helpTopics)
		if c.opts.Own {
			c.output(ownTopics[1:])
		}
	case "help":
		c.output("help\t\tPrint a list of available actions\nhelp <action>\tPrint help for <action>")
	default:
		text := helpOf(arg)
		if own := isOwn(arg); text == "" || own && !c.opts.Own {
			text = "*** No help on " + arg
		}
		c.output(text)
	}
}

func isOwn(action string) bool {
	return action == "drain" || action == "phase" || action == "routes" || action == "sessions"
}

// helpOf is the help text of an action, without the last line end; "" when there is no such action.
func helpOf(action string) string {
	switch action {
	case "add":
		return "add <name> [...]\tActivates any updates in config for process/group"
	case "avail":
		return "avail\t\t\tDisplay all configured processes"
	case "clear":
		return lines("clear <name>\t\tClear a process' log files.",
			"clear <name> <name>\tClear multiple process' log files",
			"clear all\t\tClear all process' log files")
	case "drain":
		return lines("drain\t\t\tTake the pod out of service; programs go on until the drain is over",
			"drain --wait\t\tThe same, and wait until the agent has nothing in flight")
	case "exit":
		return "exit\tExit the supervisor shell."
	case "fg":
		return "fg <process>\tConnect to a process in foreground mode\n\t\tCtrl-C to exit"
	case "maintail":
		return lines("maintail -f \tContinuous tail of supervisor main log file (Ctrl-C to exit)",
			"maintail -100\tlast 100 *bytes* of supervisord main log file",
			"maintail\tlast 1600 *bytes* of supervisor main log file", "")
	case "open":
		return "open <url>\tConnect to a remote supervisord process.\n\t\t(for UNIX domain socket, use unix:///socket/path)"
	case "routes":
		return "routes\t\t\tList the routes: upstream, readiness, requests in flight and in the queue"
	case "sessions":
		return lines("sessions\t\tList who is logged in by SSH, and what runs there",
			"sessions kill <id>\tEnd a connection and what runs on it")
	case "phase":
		return "phase\t\t\tShow the phase of the agent: starting, ready, draining or stopping"
	case "pid":
		return lines("pid\t\t\tGet the PID of supervisord.",
			"pid <name>\t\tGet the PID of a single child process by name.",
			"pid all\t\t\tGet the PID of every child process, one per line.")
	case "quit":
		return "quit\tExit the supervisor shell."
	case "reload":
		return "reload \t\tRestart the remote supervisord."
	case "remove":
		return "remove <name> [...]\tRemoves process/group from active config"
	case "reread":
		return "reread \t\t\tReload the daemon's configuration files without add/remove"
	case "restart":
		return lines("restart <name>\t\tRestart a process",
			"restart <gname>:*\tRestart all processes in a group",
			"restart <name> <name>\tRestart multiple processes or groups",
			"restart all\t\tRestart all processes",
			"Note: restart does not reread config files. For that, see reread and update.")
	case "shutdown":
		return "shutdown \tShut the remote supervisord down."
	case "signal":
		return lines("signal <signal name> <name>\t\tSignal a process",
			"signal <signal name> <gname>:*\t\tSignal all processes in a group",
			"signal <signal name> <name> <name>\tSignal multiple processes or groups",
			"signal <signal name> all\t\tSignal all processes")
	case "start":
		return lines("start <name>\t\tStart a process",
			"start <gname>:*\t\tStart all processes in a group",
			"start <name> <name>\tStart multiple processes or groups",
			"start all\t\tStart all processes")
	case "status":
		return lines("status <name>\t\tGet status for a single process",
			"status <gname>:*\tGet status for all processes in a group",
			"status <name> <name>\tGet status for multiple named processes",
			"status\t\t\tGet all process status info")
	case "stop":
		return lines("stop <name>\t\tStop a process",
			"stop <gname>:*\t\tStop all processes in a group",
			"stop <name> <name>\tStop multiple processes or groups",
			"stop all\t\tStop all processes")
	case "tail":
		return lines("tail [-f] <name> [stdout|stderr] (default stdout)", "Ex:",
			"tail -f <name>\t\tContinuous tail of named process stdout", "\t\t\tCtrl-C to exit.",
			"tail -100 <name>\tlast 100 *bytes* of process stdout",
			"tail <name> stderr\tlast 1600 *bytes* of process stderr")
	case "update":
		return lines("update\t\t\tReload config and add/remove as necessary, and will restart affected programs",
			"update all\t\tReload config and add/remove as necessary, and will restart affected programs",
			"update <gname> [...]\tUpdate specific groups")
	case "version":
		return "version\t\t\tShow the version of the remote supervisord process"
	}
	return ""
}

func lines(ls ...string) string { return strings.Join(ls, "\n") }
