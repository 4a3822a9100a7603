package xmlrpc

import (
	"context"
	"sort"

	"github.com/inpod/inpod/supervisor"
)

// methods is everything that can be called, with the aliases that Supervisor keeps for old clients.
func methods() map[string]*method {
	m := map[string]*method{}
	addDaemon(m)
	addProcesses(m)
	addLogs(m)
	addSystem(m)
	for alias, name := range map[string]string{
		"getVersion": "getAPIVersion", "readMainLog": "readLog", "readProcessLog": "readProcessStdoutLog",
		"tailProcessLog": "tailProcessStdoutLog", "clearProcessLog": "clearProcessLogs",
	} {
		m["supervisor."+alias] = m["supervisor."+name]
	}
	return m
}

func names(m map[string]*method) []string {
	list := make([]string, 0, len(m))
	for name := range m {
		list = append(list, name)
	}
	sort.Strings(list)
	return list
}

// text is methodHelp's answer: what the method does and its tags.
func (m *method) text() string {
	t := m.help + "\n\n"
	for _, p := range m.params {
		t += "@param " + p.typ + " " + p.name + "\n"
	}
	return t + "@return " + m.returns + "\n"
}

func addDaemon(m map[string]*method) {
	m["supervisor.getAPIVersion"] = &method{
		help: "The version of this interface.", returns: "string",
		call: func(context.Context, *handler, args) (any, error) { return apiVersion, nil },
	}
	m["supervisor.getSupervisorVersion"] = &method{
		help: "The Supervisor release whose behaviour this is.", returns: "string",
		call: func(context.Context, *handler, args) (any, error) { return version, nil },
	}
	m["supervisor.getIdentification"] = &method{
		help: "The identifier of [supervisord].", returns: "string",
		call: func(_ context.Context, h *handler, _ args) (any, error) { return h.o.Identification, nil },
	}
	m["supervisor.getState"] = &method{help: "The agent's state: statecode and statename.", returns: "struct", call: getState}
	m["supervisor.getPID"] = &method{
		help: "The agent's process id.", returns: "int",
		call: func(_ context.Context, h *handler, _ args) (any, error) { return h.o.PID(), nil },
	}
	m["supervisor.readLog"] = &method{
		help: "A part of the agent's own log.", returns: "string",
		params: []param{paramOffset, paramLength}, call: readMainLog,
	}
	m["supervisor.clearLog"] = &method{help: "Empties the agent's own log.", returns: "boolean", call: clearMainLog}
	m["supervisor.shutdown"] = &method{
		help: "Stops everything and ends the agent.", returns: "boolean",
		call: func(_ context.Context, h *handler, _ args) (any, error) { h.o.Shutdown(); return true, nil },
	}
	m["supervisor.restart"] = &method{
		help: "Stops everything and starts anew, unless the files are bad.", returns: "boolean",
		call: func(_ context.Context, h *handler, _ args) (any, error) {
			if err := h.o.Restart(); err != nil {
				return nil, &supervisor.Fault{Code: supervisor.CantReread, Detail: err.Error()}
			}
			return true, nil
		},
	}
	m["supervisor.reloadConfig"] = &method{
		help:    "Reads the configuration again; says which groups are new, changed and gone.",
		returns: "array", call: reloadConfig,
	}
	m["supervisor.addProcessGroup"] = &method{
		help: "Activates a group of the configuration.", returns: "boolean", params: []param{paramName},
		call: onText(func(_ context.Context, h *handler, name string) (any, error) {
			return done(h.o.Supervisor.AddGroup(name))
		}),
	}
	m["supervisor.removeProcessGroup"] = &method{
		help: "Deactivates a group that is stopped.", returns: "boolean", params: []param{paramName},
		call: onText(func(_ context.Context, h *handler, name string) (any, error) {
			return done(h.o.Supervisor.RemoveGroup(name))
		}),
	}
	m["supervisor.sendRemoteCommEvent"] = &method{
		help: "Sends a REMOTE_COMMUNICATION event to the listeners.", returns: "boolean", always: true,
		params: []param{{typ: "string", name: "type"}, {typ: "string", name: "data"}}, call: sendComm,
	}
}

func addProcesses(m map[string]*method) {
	m["supervisor.startProcess"] = &method{
		help: "Starts a process, or a group as group:*.", returns: "boolean",
		params: []param{paramName, paramWait}, call: onNameWait(func(ctx context.Context, h *handler, name string, wait bool) (any, error) {
			return one(name, func() error { return h.o.Supervisor.StartProcess(ctx, name, wait) },
				func(g string) ([]supervisor.ProcessStatus, error) { return h.o.Supervisor.StartGroup(ctx, g, wait) })
		}),
	}
	m["supervisor.startProcessGroup"] = &method{
		help: "Starts every process of a group.", returns: "array",
		params: []param{paramName, paramWait}, call: onNameWait(func(ctx context.Context, h *handler, name string, wait bool) (any, error) {
			return statuses(h.o.Supervisor.StartGroup(ctx, name, wait))
		}),
	}
	m["supervisor.startAllProcesses"] = &method{
		help: "Starts every process.", returns: "array", params: []param{paramWait},
		call: func(ctx context.Context, h *handler, a args) (any, error) {
			return statuses(h.o.Supervisor.StartAll(ctx, a.truth(0)))
		},
	}
	m["supervisor.stopProcess"] = &method{
		help: "Stops a process, or a group as group:*.", returns: "boolean",
		params: []param{paramName, paramWait}, call: onNameWait(func(ctx context.Context, h *handler, name string, wait bool) (any, error) {
			return one(name, func() error { return h.o.Supervisor.StopProcess(ctx, name, wait) },
				func(g string) ([]supervisor.ProcessStatus, error) { return h.o.Supervisor.StopGroup(ctx, g, wait) })
		}),
	}
	m["supervisor.stopProcessGroup"] = &method{
		help: "Stops every process of a group.", returns: "array",
		params: []param{paramName, paramWait}, call: onNameWait(func(ctx context.Context, h *handler, name string, wait bool) (any, error) {
			return statuses(h.o.Supervisor.StopGroup(ctx, name, wait))
		}),
	}
	m["supervisor.stopAllProcesses"] = &method{
		help: "Stops every process.", returns: "array", params: []param{paramWait},
		call: func(ctx context.Context, h *handler, a args) (any, error) {
			return statuses(h.o.Supervisor.StopAll(ctx, a.truth(0)))
		},
	}
	m["supervisor.signalProcess"] = &method{
		help: "Sends a signal (HUP, SIGHUP or 1) to a process, or to a group as group:*.", returns: "boolean",
		params: []param{paramName, paramSignal}, call: onNameSignal(func(h *handler, name, sig string) (any, error) {
			return one(name, func() error { return h.o.Supervisor.SignalProcess(name, sig) },
				func(g string) ([]supervisor.ProcessStatus, error) { return h.o.Supervisor.SignalGroup(g, sig) })
		}),
	}
	m["supervisor.signalProcessGroup"] = &method{
		help: "Sends a signal to every process of a group.", returns: "array",
		params: []param{paramName, paramSignal}, call: onNameSignal(func(h *handler, name, sig string) (any, error) {
			return statuses(h.o.Supervisor.SignalGroup(name, sig))
		}),
	}
	m["supervisor.signalAllProcesses"] = &method{
		help: "Sends a signal to every process.", returns: "array", params: []param{paramSignal},
		call: func(_ context.Context, h *handler, a args) (any, error) {
			sig, err := a.signal(0)
			if err != nil {
				return nil, err
			}
			return statuses(h.o.Supervisor.SignalAll(sig))
		},
	}
	m["supervisor.getProcessInfo"] = &method{
		help: "What is known of a process.", returns: "struct", params: []param{paramName},
		call: onText(func(_ context.Context, h *handler, name string) (any, error) {
			info, err := h.o.Supervisor.ProcessInfo(name)
			if err != nil {
				return nil, err
			}
			return processStruct(info), nil
		}),
	}
	m["supervisor.getAllProcessInfo"] = &method{
		help: "What is known of every process.", returns: "array",
		call: func(_ context.Context, h *handler, _ args) (any, error) {
			return mapTo(h.o.Supervisor.AllProcessInfo(), processStruct), nil
		},
	}
	m["supervisor.getAllConfigInfo"] = &method{
		help: "The configuration of every process, as it was read last.", returns: "array",
		call: func(_ context.Context, h *handler, _ args) (any, error) {
			return mapTo(h.o.Supervisor.AllConfigInfo(), configStruct), nil
		},
	}
	m["supervisor.sendProcessStdin"] = &method{
		help: "Writes to the stdin of a process.", returns: "boolean",
		params: []param{paramName, {typ: "string", name: "chars"}}, call: sendStdin,
	}
}

func addLogs(m map[string]*method) {
	byRange := []param{paramName, paramOffset, paramLength}
	for _, s := range []struct{ word, stream string }{{"Stdout", "stdout"}, {"Stderr", "stderr"}} {
		m["supervisor.readProcess"+s.word+"Log"] = &method{
			help:    "A part of the log of a process's " + s.stream + ".",
			returns: "string", params: byRange, call: readLog(s.stream),
		}
		m["supervisor.tailProcess"+s.word+"Log"] = &method{help: "The end of the log of a process's " + s.stream +
			", the offset to go on from, and whether some was left out.", returns: "array", params: byRange, call: tailLog(s.stream)}
	}
	m["supervisor.clearProcessLogs"] = &method{
		help: "Empties the logs of a process.", returns: "boolean", params: []param{paramName},
		call: onText(func(_ context.Context, h *handler, name string) (any, error) {
			return done(h.o.Supervisor.ClearLogs(name))
		}),
	}
	m["supervisor.clearAllProcessLogs"] = &method{
		help: "Empties the logs of every process.", returns: "array",
		call: func(_ context.Context, h *handler, _ args) (any, error) {
			return statuses(h.o.Supervisor.ClearAllLogs())
		},
	}
}

func addSystem(m map[string]*method) {
	unsupported := &supervisor.Fault{Code: supervisor.SignatureUnsupported}
	m["system.listMethods"] = &method{
		help: "The names of all methods.", returns: "array", always: true,
		call: func(_ context.Context, h *handler, _ args) (any, error) { return names(h.methods), nil },
	}
	m["system.methodHelp"] = &method{
		help: "What a method does.", returns: "string", params: []param{paramName}, always: true,
		call: func(_ context.Context, h *handler, a args) (any, error) {
			if name, ok := a[0].(string); ok && h.methods[name] != nil {
				return h.methods[name].text(), nil
			}
			return nil, unsupported
		},
	}
	m["system.methodSignature"] = &method{
		help: "The type that a method returns, and those of its parameters.", returns: "array",
		params: []param{paramName}, always: true, call: func(_ context.Context, h *handler, a args) (any, error) {
			name, _ := a[0].(string)
			found := h.methods[name]
			if found == nil {
				return nil, unsupported
			}
			sig := []string{found.returns}
			for _, p := range found.params {
				sig = append(sig, p.typ)
			}
			return sig, nil
		},
	}
	m["system.multicall"] = &method{
		help: "Runs calls, structs of methodName and params, one after the other.", returns: "array",
		params: []param{{typ: "array", name: "calls"}}, always: true, call: multicall,
	}
}

// multicall answers each call with its value, or with a struct of faultCode and faultString.
func multicall(ctx context.Context, h *handler, a args) (any, error) {
	calls, ok := a[0].([]any)
	if !ok {
		return nil, incorrect()
	}
	results := make([]any, 0, len(calls))
	for _, c := range calls {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		value, err := h.callOne(ctx, c)
		if err != nil {
			value = faultStruct(h.fault(err))
		}
		results = append(results, value)
	}
	return results, nil
}

func (h *handler) callOne(ctx context.Context, c any) (any, error) {
	call, ok := c.(map[string]any)
	if !ok {
		return nil, incorrect()
	}
	name, ok := call["methodName"].(string)
	switch {
	case !ok:
		return nil, &supervisor.Fault{Code: supervisor.IncorrectParameters, Detail: "No methodName"}
	case name == "system.multicall":
		return nil, &supervisor.Fault{Code: supervisor.IncorrectParameters, Detail: "Recursive system.multicall forbidden"}
	}
	params, ok := call["params"].([]any)
	if !ok && call["params"] != nil {
		return nil, incorrect()
	}
	return h.call(ctx, name, params)
}

func mapTo[T any](list []T, f func(T) Struct) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = f(v)
	}
	return out
}
