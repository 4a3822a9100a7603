package injector

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/inpod/inpod/config"
)

// Domain begins every annotation and label of ours.
const Domain = "inpod.dev/"

// The labels and the annotations that are no settings.
const (
	InjectLabel      = Domain + "inject"   // wrap, sidecar, true, false: whether and how
	InjectedLabel    = Domain + "injected" // set on what was injected: the mode
	StatusAnnotation = Domain + "status"   // set on what was injected: what was done, as JSON
)

// The two ways of injection.
const (
	Wrap    = "wrap"
	Sidecar = "sidecar"
)

const (
	yes = "true"
	no  = "false"
	off = "off"
	on  = "on"

	auto     = "auto"
	none     = "none"
	redirect = "redirect"
	named    = "named"
)

// setting is one thing that users may write: as an annotation of the pod or its namespace with Domain in front, as a
// key of the ConfigMap, as a key of the installation's defaults.
type setting struct {
	name, def, kind, doc string
}

// table declares every setting once. The kinds are in check; docs/reference/injector.md is made from it.
var table = []setting{
	{"mode", Wrap, "wrap|sidecar", "What the label `inpod.dev/inject: \"true\"` means."},
	{"config", "", "name", "ConfigMap in the pod's namespace whose keys are these settings without `inpod.dev/`; its key `inpod.yaml` is the agent's file. Annotations of the pod win."},
	{"profile", "", "inference|notebook|airlock", "A set of other defaults, see below. Every setting that is written anywhere wins over it."},
	{"container", "", "container", "The container that is wrapped, or whose port is taken. Not set: `kubectl.kubernetes.io/default-container`, else the first one."},
	{"inject-anyway", no, "true|false", "Also into pods that are left alone otherwise: Argo Workflow, Kaniko."},

	{"port", auto, "ports", "Ports of the server, names or numbers separated by commas, that inpod stands in front of. auto: the container's only TCP port, or the one called http or http-…; none in Jobs. none: no port."},
	{"intercept", auto, "auto|redirect|named|none", "How requests get to inpod. redirect: what arrives at the port goes to inpod, Services stay as they are; needs NET_ADMIN in an init container. named: the port's name moves to inpod's port. none: clients use inpod's port. auto: redirect where the namespace's Pod Security allows it and no service mesh does the same, else named where the port has a name, else none."},
	{"proxy-port", "15080", "port", "Port that inpod takes for the first of `port`; the next ones follow it."},
	{"direct-port", "15090", "port", "With redirect, the port that leads past inpod to the server, for liveness and startup probes; the next ones follow it."},
	{"admin-port", "9880", "port", "Port of health and metrics."},

	{"timeout", "60s", "duration", "Until the server's answer begins; after that the client gets 504."},
	{"concurrency", "0", "number", "Requests that the server works on at the same time; others wait. 0: no limit."},
	{"queue", "64", "number", "Requests that wait; more get 503."},
	{"health", "", "text", "What the server must pass before the pod is ready, as in proxy.routes[].health. Not set: the container's own readiness probe, else that the port is open."},
	{"warmup", "", "text", "A path that must answer with success before the pod is ready."},

	{"drain-delay", "60s", "duration", "How long the pod goes on serving after it was told to stop. 0s in Jobs and where there is no port."},
	{"drain-deadline", "90s", "duration", "When requests in flight are cut off, counted from the same moment."},
	{"grace", "fit", "fit|raise|keep", "terminationGracePeriodSeconds. fit: Kubernetes' default of 30 is raised to what the drain takes, another value that is too small is refused. raise: every value is raised. keep: left as it is, with a warning."},

	{"probes", "adapt", "adapt|keep", "adapt: probes of the server's port keep their meaning, missing ones are added. keep: left as they are."},
	{"startup-timeout", "30m", "duration", "How long the added startup probe lets the server take until it is ready for the first time."},
	{"scrape", on, "on|off", "Add `prometheus.io/scrape`, `port` and `path` where the pod has none of them."},
	{"log-level", "info", "debug|info|warn|error", "The least severe records of inpod's own log."},

	{"ssh", auto, "auto|on|off", "SSH into the wrapped container. auto: on where ssh-keys or ssh-users is set. on: also with what the container itself holds, such as /sync/root-passwd."},
	{"ssh-keys", "", "name", "Secret whose key `authorized_keys` holds the public keys that may log in."},
	{"ssh-host-keys", "", "name", "Secret with `ssh_host_ed25519_key` (and `ssh_host_rsa_key`). Not set: made anew with each pod."},
	{"ssh-port", "2222", "port", "Port of SSH."},
	{"ssh-forward", on, "on|off", "off: no forwarding of ports, X11 or the agent over SSH, so that SSH is no way around a NetworkPolicy."},
	{"ssh-users", "", "yaml", "Further users, a list as in ssh.users."},

	{"image", "", "text", "inpod's image. Not set: the one that was given to the injector."},
	{"image-pull-policy", "IfNotPresent", "Always|IfNotPresent|Never", "For the containers that are added."},
	{"cpu-request", "10m", "quantity", "For each container that is added."},
	{"cpu-limit", "1", "quantity", "For each container that is added."},
	{"memory-request", "32Mi", "quantity", "For each container that is added."},
	{"memory-limit", "256Mi", "quantity", "For each container that is added."},
}

// inpodYAML is the key of the ConfigMap that is no setting but the agent's file.
const inpodYAML = "inpod.yaml"

// profiles are sets of defaults for a purpose.
var profiles = map[string]map[string]string{
	"inference": {"intercept": auto, "drain-delay": "60s", "drain-deadline": "90s", "timeout": "60s"},
	"notebook": {
		"timeout": "3000s", "drain-delay": "0s", "drain-deadline": "30s", "startup-timeout": "10m", "health": "tcp",
	},
	"airlock": {
		"port": none, "intercept": none, "ssh": on, "ssh-port": "10022", "ssh-forward": off, "drain-delay": "0s", "drain-deadline": "30s",
		"ssh-users": `[{name: airlock, authorized_keys: ["` + keysFile + `"], root: /opt/public/airlock, access: read-write, sftp_only: true}]`,
	},
}

// Names lists what may be written after Domain in an annotation of a pod.
func Names() []string {
	var names []string
	for _, s := range table {
		names = append(names, s.name)
	}
	return names
}

// check says what is wrong with a value, "" when nothing is.
func (s setting) check(value string) string {
	switch s.kind {
	case "text":
		return ""
	case "name":
		if errs := validation.IsDNS1123Subdomain(value); value != "" && len(errs) > 0 {
			return "want the name of an object"
		}
	case "container":
		if errs := validation.IsDNS1123Label(value); value != "" && len(errs) > 0 {
			return "want the name of a container"
		}
	case "port":
		if _, ok := portNumber(value); !ok {
			return "want a port, 1 to 65535"
		}
	case "ports":
		return checkPorts(value)
	case "number":
		if n, err := strconv.Atoi(value); err != nil || n < 0 {
			return "want a whole number, 0 or more"
		}
	case "duration":
		if d, err := time.ParseDuration(value); err != nil || d < 0 || d > 30*24*time.Hour {
			return "want a duration such as 90s or 5m"
		}
	case "quantity":
		if q, err := resource.ParseQuantity(value); err != nil || q.Sign() < 0 {
			return "want a quantity such as 100m or 64Mi"
		}
	case "yaml":
		var list []any
		if err := yaml.Unmarshal([]byte(value), &list); err != nil {
			return "want a list in YAML or JSON"
		}
		if _, err := json.Marshal(list); err != nil { // YAML knows keys and numbers that JSON does not
			return "want a list that JSON could hold too"
		}
	default:
		if words := strings.Split(s.kind, "|"); !slices.Contains(words, value) && (value != "" || s.def != "") {
			return "want " + strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
		}
	}
	return ""
}

func checkPorts(value string) string {
	if value == auto || value == none {
		return ""
	}
	list := strings.Split(value, ",")
	if len(list) > 8 {
		return "want at most 8 ports"
	}
	for _, p := range list {
		p = strings.TrimSpace(p)
		if _, ok := portNumber(p); !ok && len(validation.IsValidPortName(p)) > 0 {
			return "want names or numbers of ports, separated by commas, auto or none"
		}
	}
	return ""
}

const maxPort = 65535

func portNumber(s string) (int32, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return int32(n), err == nil && n > 0
}

// layer is one place where settings are written, with the words for it in errors.
type layer struct {
	place  string
	prefix string // in front of the names there
	values map[string]string
}

// options are the settings in effect for one pod.
type options struct {
	values map[string]string
	from   map[string]string // the place, as "annotation inpod.dev/port"; "" for defaults
	filed  map[string]bool   // what the agent's file says, where nobody wrote the setting
}

// newOptions merges the layers, the last of which wins, over the profile that the merge names, over the defaults.
// It returns everything that is wrong.
func newOptions(layers []layer) (o options, problems []string) {
	o = options{values: make(map[string]string, len(table)), from: map[string]string{}, filed: map[string]bool{}}
	for _, s := range table {
		o.values[s.name] = s.def
	}
	written := map[string]string{}
	for _, l := range layers {
		for _, name := range slices.Sorted(maps.Keys(l.values)) {
			value := strings.TrimSpace(l.values[name])
			i := slices.IndexFunc(table, func(s setting) bool { return s.name == name })
			if i < 0 {
				problems = append(problems, fmt.Sprintf("%s %s is none that inpod knows%s", l.place, l.prefix+name, suggest(l.prefix, name)))
				continue
			}
			s := table[i]
			if wrong := s.check(value); wrong != "" {
				is := fmt.Sprintf("is %q", clip(value))
				if s.kind == "yaml" {
					is = "cannot be read" // it may hold passwords, which are nothing for Events and logs
				}
				problems = append(problems, fmt.Sprintf("%s %s %s; %s", l.place, l.prefix+name, is, wrong))
				continue
			}
			written[name] = value
			o.from[name] = l.place + " " + l.prefix + name
		}
	}
	maps.Copy(o.values, profiles[written["profile"]])
	maps.Copy(o.values, written)
	return o, problems
}

// FromYAML is what a file of YAML says of a setting, as text; false when it is none. To YAML's readers on and off are
// the same as true and false, unless they are quoted.
func FromYAML(name string, value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case bool:
		i := slices.IndexFunc(table, func(s setting) bool { return s.name == name })
		if i < 0 || !slices.Contains(strings.Split(table[i].kind, "|"), on) {
			return strconv.FormatBool(v), true
		}
		if v {
			return on, true
		}
		return off, true
	}
	return "", false
}

// resources says what is wrong with the limits, in the words of the API server, which would refuse the pod.
func (o options) resources() (problems []string) {
	for _, name := range []string{"cpu", "memory"} {
		request, limit := resource.MustParse(o.text(name+"-request")), resource.MustParse(o.text(name+"-limit"))
		if request.Cmp(limit) > 0 {
			problems = append(problems, fmt.Sprintf("%s%s-request is %s, which is more than %[1]s%[2]s-limit, %[4]s; write another one of them",
				Domain, name, o.text(name+"-request"), o.text(name+"-limit")))
		}
	}
	return problems
}

// CheckDefaults says what is wrong with the defaults of an installation.
func CheckDefaults(defaults map[string]string) error {
	if _, problems := newOptions([]layer{{"the injector's setting", "", defaults}}); len(problems) > 0 {
		return refuseSettings(problems)
	}
	return nil
}

func (o options) text(name string) string { return o.values[name] }
func (o options) set(name string) bool    { return o.from[name] != "" }
func (o options) known(name string) bool  { return o.set(name) || o.filed[name] }
func (o options) is(name, v string) bool  { return o.values[name] == v }

func (o options) number(name string) int {
	n, _ := strconv.Atoi(o.values[name]) // checked by newOptions
	return n
}

func (o options) port(name string) int32 {
	n, _ := portNumber(o.values[name])
	return n
}

func (o options) duration(name string) time.Duration {
	d, _ := time.ParseDuration(o.values[name])
	return d
}

// own returns those of annotations that are ours, without Domain.
func own(annotations map[string]string) map[string]string {
	found := map[string]string{}
	for name, value := range annotations {
		if rest, ok := strings.CutPrefix(name, Domain); ok && name != StatusAnnotation {
			found[rest] = value
		}
	}
	return found
}

// suggest finds the name that was probably meant.
func suggest(prefix, name string) string {
	if name == "inject" {
		return "; " + InjectLabel + " is a label of the pod"
	}
	best, least := "", max(2, len(name)/3)+1
	for _, s := range table {
		if d := distance(name, s.name); d < least {
			best, least = s.name, d
		}
	}
	if best == "" {
		return "; docs/reference/injector.md lists all"
	}
	return "; did you mean " + prefix + best + "?"
}

// distance is config's, blind to case and to the kind of dash.
func distance(a, b string) int {
	fold := strings.NewReplacer("_", "-", ".", "-")
	a, b = fold.Replace(strings.ToLower(clip(a))), fold.Replace(b)
	return config.Distance(a, b)
}

// clip keeps messages short whatever somebody wrote.
func clip(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// jsonText is v as JSON on one line; what we give it can always be written.
func jsonText(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return string(text)
}
