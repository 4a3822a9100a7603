package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// expandAll replaces ${NAME} in the values whose tag says expand. It returns the problems, by key.
func (c *Config) expandAll(env map[string]string) Problems {
	var ps Problems
	var visit func(path string, v reflect.Value, on bool)
	visit = func(path string, v reflect.Value, on bool) {
		switch v.Kind() {
		case reflect.Struct:
			for _, f := range fieldsOf(v) {
				visit(join(path, f.key), f.val, f.expands())
			}
		case reflect.Slice:
			for i := range v.Len() {
				visit(path+"["+strconv.Itoa(i)+"]", v.Index(i), on)
			}
		case reflect.String:
			if !on {
				return
			}
			s, msg := expand(v.String(), env)
			if msg != "" {
				ps = append(ps, c.origins[path].problem(path, "%s", msg))
				return
			}
			v.SetString(s)
		}
	}
	visit("", reflect.ValueOf(c).Elem(), false)
	return ps
}

// expands tells whether ${NAME} is replaced in the field's value. Of a command that was written as one line the shell
// does that.
func (f field) expands() bool {
	if f.tag.Get("line") != "" && (Hook{Command: f.val.Interface().([]string)}).Line() != "" {
		return false
	}
	return f.tag.Get("expand") != ""
}

// expand replaces ${NAME} and ${NAME:-otherwise}, as in a shell; $${ stands for ${. Any other $ stays. A variable that
// is not set and has no default is a problem: a user called "" would be one too, but a worse one to find.
func expand(s string, env map[string]string) (out, problem string) {
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String(), ""
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		name, rest, closed := strings.Cut(s[i+2:], "}")
		if !closed {
			return "", fmt.Sprintf("%q has a ${ without a }", clip(s))
		}
		name, otherwise, has := strings.Cut(name, ":-")
		if !variableName.MatchString(name) {
			return "", fmt.Sprintf("${%s} does not name a variable", clip(name))
		}
		if strings.Contains(otherwise, "${") { // the } of the inner one would end both, and the other stay in the value
			return "", fmt.Sprintf("%q has a variable in the default of another, which is not read", clip("${"+name+":-"+otherwise))
		}
		value := env[name]
		if _, set := env[name]; !set && !has {
			return "", fmt.Sprintf("names the variable %s, which is not set; ${%s:-x} gives it a default", clip(name), clip(name))
		}
		if value == "" {
			value = otherwise
		}
		b.WriteString(value)
		s = rest
	}
}
