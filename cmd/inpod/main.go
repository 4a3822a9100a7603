// Command inpod is the runtime inside an ML pod: the agent, its control client and the small helpers
// of containers. Called through a link named supervisord, supervisorctl, shutdown, sftp-server or scp
// it behaves as that tool. Flags come in here and exit codes go out; the work is in the packages agent and agent/ctl.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/inpod/inpod/agent"
)

// version is set by the build: -ldflags "-X main.version=v1.2.3".
var version = "dev"

func main() { os.Exit(run(os.Args)) }

func run(args []string) int {
	a := &app{argv0: args[0], stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.Environ(), runAgent: agent.Run}
	switch filepath.Base(a.argv0) {
	case "supervisord":
		return a.supervisord(args[1:])
	case "supervisorctl":
		return a.supervisorctl(args[1:])
	case "shutdown":
		return a.shutdown(args[1:])
	case "sftp-server":
		return a.sftpServer(args[1:])
	case "scp":
		return a.scp(args[1:])
	}
	root := newRoot(a)
	root.SetArgs(args[1:])
	err := root.Execute()
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	// What is left is cobra's own: an unknown command, a bad flag, wrong arguments.
	fmt.Fprintf(a.stderr, "inpod: %v (see inpod --help)\n", err)
	return exitUsage
}
