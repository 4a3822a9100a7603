package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Reference is docs/reference/config.md, made from the tags of Config.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Settings

<!-- Made from the declarations in config/ by "go test ./config -update". Do not edit. -->

The file is ` + "`" + DefaultFile + "`" + `, or what ` + "`--config`" + ` names. Every key is optional, and every key outside a list has a
variable that wins over the file; lists and maps are written there as YAML or JSON, and an empty variable counts as not set.
A list in the environment replaces the whole list of the file. Items of ` + "`users`, `seed`, `files`, `hooks` and `models` take variables: `${NAME}`, or `${NAME:-default}`" + `
(` + "`$${`" + ` is a ` + "`${`" + ` that is meant); one that is not set and has no default is an error. Unknown keys are errors. Durations are written as ` + "`60s`, `1m30s`, `500ms`" + `, sizes as
` + "`64Ki`, `1Mi`, `100Gi`, `1GB`" + ` or in bytes.
` + "`inpod check`" + ` prints the settings in effect and everything that is wrong with them.
`)
	walk("", reflect.TypeFor[Config](), func(path string, sf reflect.StructField) {
		switch {
		case sf.Type.Kind() == reflect.Struct:
			fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| key | type | default | variable | |\n|---|---|---|---|---|\n", path, sf.Tag.Get("doc"))
			return
		case strings.Contains(path, "[]") && first(sf):
			list := path[:strings.LastIndex(path, "[]")]
			fmt.Fprintf(&b, "\n### Each item of %s\n\n| key | type | default | variable | |\n|---|---|---|---|---|\n", list)
		}
		def := "`" + sf.Tag.Get("default") + "`"
		switch {
		case sf.Tag.Get("required") != "":
			def = "required"
		case sf.Tag.Get("default") == "":
			def = "none"
		}
		env := "`" + EnvName(path) + "`"
		if strings.Contains(path, "[]") {
			env = "–"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", path, typeName(sf), def, env, sf.Tag.Get("doc"))
	})
	return b.String()
}

// first tells whether a field is the first of its struct.
func first(sf reflect.StructField) bool { return len(sf.Index) == 1 && sf.Index[0] == 0 }

func typeName(sf reflect.StructField) string {
	if enum := sf.Tag.Get("enum"); enum != "" {
		return strings.ReplaceAll("`"+enum+"`", "|", "`, `")
	}
	switch {
	case sf.Type == durationType:
		return "duration"
	case sf.Type == sizeType:
		return "size"
	case sf.Type.Kind() == reflect.Int:
		return "whole number"
	case sf.Type.Kind() == reflect.Float64:
		return "number"
	case sf.Type.Kind() == reflect.Bool:
		return "true or false"
	case sf.Type.Kind() == reflect.Slice && sf.Type.Elem().Kind() == reflect.Struct:
		return "list of maps"
	case sf.Type.Kind() == reflect.Slice && sf.Tag.Get("line") != "":
		return "list of strings, or one line"
	case sf.Type.Kind() == reflect.Slice:
		return "list of strings"
	}
	return "string"
}
