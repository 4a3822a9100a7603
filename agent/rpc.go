package agent

import (
	"net/http"
	"os"

	"github.com/inpod/inpod/supervisor/ini"
	"github.com/inpod/inpod/supervisor/output"
	"github.com/inpod/inpod/supervisor/xmlrpc"
)

// rpcServers makes the XML-RPC handlers of a generation: that of the control socket, which asks for no password, and
// one for each server of the ini, by its key.
func (a *agent) rpcServers(gen *generation, c *ini.Config) map[string]http.Handler {
	options := func(user, password string) xmlrpc.Options {
		return xmlrpc.Options{
			Supervisor:     gen.sup,
			Identification: c.Supervisord.Identifier,
			PID:            os.Getpid,
			State:          a.supervisorState,
			Shutdown:       func() { go a.send(command{kind: cmdShutdown}) },
			Restart:        a.restart,
			MainLog:        a.mainLog,
			Follow:         output.Follow,
			Username:       user, Password: password,
			Logger: a.log.With("part", "xmlrpc"),
		}
	}
	gen.rpc = xmlrpc.NewHandler(options("", ""))
	handlers := map[string]http.Handler{}
	for _, u := range c.UnixServers {
		handlers[unixKey(u)] = a.recovering(xmlrpc.NewHandler(options(u.Username, u.Password)))
	}
	for _, i := range c.InetServers {
		handlers[inetKey(i)] = a.recovering(xmlrpc.NewHandler(options(i.Username, i.Password)))
	}
	return handlers
}

// restart begins a restart of all programs. What is bad is said now, while everything runs; it stays as it is then.
func (a *agent) restart() error {
	if _, err := a.src.load(); err != nil {
		a.reload.failed(err)
		return err
	}
	go a.send(command{kind: cmdRestart})
	return nil
}

// supervisorState is what getState answers (supervisord.org/api.html#supervisor.rpcinterface).
func (a *agent) supervisorState() (code int, name string) {
	switch {
	case a.phase.get() == PhaseStopping:
		return -1, "SHUTDOWN"
	case a.restarting.Load():
		return 0, "RESTARTING"
	}
	return 1, "RUNNING"
}
