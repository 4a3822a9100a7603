package ini

import (
	"fmt"
	"slices"
	"strings"
)

// Reference is docs/reference/programs.md, made from Keys.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Keys of the ini files

<!-- Made from the declarations in supervisor/ini by "go test ./supervisor/ini -update". Do not edit. -->

The files are Supervisor's (its [manual](http://supervisord.org/configuration.html) holds), with keys of the Go port
ochinchina/supervisord and of inpod; the last column says whose a key is. Values are expanded: ` + "`%(here)s`, `%(host_node_name)s`, `%(ENV_x)s`" + `, in
programs also ` + "`%(program_name)s`, `%(group_name)s`, `%(process_num)02d`, `%(numprocs)s`" + `; a percent sign is ` + "`%%`" + `. Sizes are bytes or have KB, MB
or GB behind them. A key that is not in these tables is a warning with its line, and an error under ` + "`inpod check --strict`" + `.
`)
	for _, part := range []struct{ title, text string }{
		{kSupervisord, "The agent itself."},
		{kUnix, "The control interface on a unix socket."},
		{kInet, "The control interface on TCP."},
		{kCtl, "The control client."},
		{kInclude, "More files. An [include] in an included file is not followed."},
		{kRPC, "Plug-ins, `[rpcinterface:x]`."},
		{kGroup, "Programs that are started and stopped together, `[group:x]`."},
		{kProgram, "Programs, `[program:x]`. `[program-default]` gives what they leave out."},
		{kListener, "Programs that are sent events, `[eventlistener:x]`: the keys of programs and these."},
		{kFastCGI, "Programs that share a socket, `[fcgi-program:x]`: the keys of programs and these."},
	} {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| key | type | default | | of |\n|---|---|---|---|---|\n", part.title, part.text)
		for _, k := range Keys() {
			shared := slices.Contains(k.Sections, kProgram)
			if !slices.Contains(k.Sections, part.title) || shared && part.title != kProgram {
				continue
			}
			doc := k.Doc
			if shared && !slices.Contains(k.Sections, kListener) {
				doc += " Not for event listeners."
			}
			def := "none"
			if k.Default != "" {
				def = "`" + k.Default + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", k.Name, k.Type, def, doc, k.Origin)
		}
	}
	return b.String()
}
