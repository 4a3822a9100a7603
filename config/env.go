package config

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// envPrefix begins every variable that is a setting.
const envPrefix = "INPOD_"

// envAuthorizedKeys holds public keys and belongs to no key.
const envAuthorizedKeys = "INPOD_AUTHORIZED_KEYS"

// envFile is --config, and so read before there are settings.
const envFile = "INPOD_CONFIG"

// kubernetesLink matches the variables that Kubernetes makes for a Service whose name begins with "inpod"
// (kubernetes.io/docs/concepts/services-networking/service/#environment-variables): they are no mistyped settings.
var kubernetesLink = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_.*)?)$`)

// EnvName is the variable of a key: drain.delay is INPOD_DRAIN_DELAY.
func EnvName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// environment lays the variables over v and returns a warning for each that looks like a setting but is none.
// A section's variable (INPOD_DRAIN) is read before those of its keys, which win. An empty one counts as not set.
func (d *decoder) environment(env map[string]string, v reflect.Value) Problems {
	known := map[string]bool{envAuthorizedKeys: true, envFile: true}
	var visit func(path string, v reflect.Value)
	visit = func(path string, v reflect.Value) {
		for _, f := range fieldsOf(v) {
			at := join(path, f.key)
			name := EnvName(at)
			known[name] = true
			if s := env[name]; s != "" {
				d.src = origin{env: name}
				d.reset(at)
				d.text(at, s, f.val, f.tag)
			}
			if f.val.Kind() == reflect.Struct {
				visit(at, f.val)
			}
		}
	}
	visit("", v)

	var warnings Problems
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !strings.HasPrefix(name, envPrefix) || known[name] || kubernetesLink.MatchString(name) {
			continue
		}
		names := slices.Sorted(maps.Keys(known))
		warnings = append(warnings, Problem{Env: name, Msg: "is not a setting" + suggestion(name, names)})
	}
	return warnings
}

// reset forgets what the file said of a list that a variable replaces as a whole.
func (d *decoder) reset(path string) {
	maps.DeleteFunc(d.origins, func(key string, _ origin) bool { return strings.HasPrefix(key, path+"[") })
	if len(d.unread) > 0 {
		d.problems = slices.DeleteFunc(d.problems, func(p Problem) bool {
			return p.Env == "" && (p.Key == path || strings.HasPrefix(p.Key, path+"["))
		})
		d.unread = slices.DeleteFunc(d.unread, func(key string) bool { return key == path || strings.HasPrefix(key, path+"[") })
	}
}
