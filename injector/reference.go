package injector

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Reference is docs/reference/injector.md, made from table, profiles and sentences.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Injection: labels, annotations, messages

<!-- Made from the tables in injector/ by "go test ./injector -run Reference -update". Do not edit. -->

The label ` + "`inpod.dev/inject`" + ` of a pod asks for inpod: ` + "`wrap`, `sidecar`, `true`" + ` (the installation's mode), ` + "`false`" + ` (never).
Everything else is a setting, with a default. The same names count in four places, of which the later wins:

1. the installation: ` + "`injector.defaults`" + ` of the chart, without ` + "`inpod.dev/`" + `
2. the namespace: annotations of the Namespace
3. the ConfigMap that ` + "`inpod.dev/config`" + ` names: its keys, without ` + "`inpod.dev/`" + `
4. the pod: annotations

Names that are in no table are refused, with the name that was probably meant.

## Settings

| annotation | values | default | |
|---|---|---|---|
`)
	for _, s := range table {
		def := "`" + s.def + "`"
		if s.def == "" {
			def = "none"
		}
		kind := s.kind
		switch kind {
		case "name", "container":
			kind = "a name"
		case "ports":
			kind = "ports"
		case "yaml":
			kind = "YAML or JSON"
		}
		if strings.Contains(kind, "|") {
			kind = "`" + strings.ReplaceAll(kind, "|", "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s%s` | %s | %s | %s |\n", Domain, s.name, kind, def, strings.ReplaceAll(s.doc, "|", "\\|"))
	}
	b.WriteString("\n## Profiles\n\nWhat is not set anywhere has these defaults.\n\n| profile | setting | default |\n|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(profiles)) {
		for _, key := range slices.Sorted(maps.Keys(profiles[name])) {
			fmt.Fprintf(&b, "| `%s` | `%s` | `%s` |\n", name, key, profiles[name][key])
		}
	}
	b.WriteString(`
## What is injected

| what | name | |
|---|---|---|
| label | ` + "`" + InjectedLabel + "`" + ` | the mode; monitors select by it |
| annotation | ` + "`" + StatusAnnotation + "`" + ` | JSON: what was done |
| init container | ` + "`" + installName + "`" + ` | copies inpod to ` + "`" + binDir + "`" + ` |
| init container | ` + "`" + redirectName + "`" + ` | with ` + "`redirect`" + `: sets the rules, as root with NET_ADMIN only |
| init container | ` + "`" + sidecarName + "`" + ` | with ` + "`sidecar`" + `: inpod, with restartPolicy Always |
| volumes | ` + "`" + binVolume + "`, `" + runVolume + "`" + ` | emptyDirs: the binary (read-only in the container), the control socket at ` + "`" + runDir + "`" + ` |
| volumes | ` + "`" + configVolume + "`, `" + keysVolume + "`, `" + hostKeyVolume + "`" + ` | where the settings name a ConfigMap or Secrets |
| container ports | ` + "`inpod-admin`, `inpod-ssh`, `inpod`" + ` | for monitors and Services |

## Messages

Why a pod is refused or left alone, by the reason in Events and metrics. A %s or %q stands for what the pod has.

| reason | message |
|---|---|
`)
	for _, reason := range slices.Sorted(maps.Keys(sentences)) {
		fmt.Fprintf(&b, "| `%s` | %s |\n", reason, strings.ReplaceAll(sentences[reason], "|", "\\|"))
	}
	return b.String()
}
