package config

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds the work of one Load: a few aliases of aliases stand for billions of nodes ("billion laughs").
const maxNodes = 100_000

// maxProblems bounds the report; nobody reads more.
const maxProblems = 100

// decoder writes YAML nodes into tagged structs and remembers where each key came from.
type decoder struct {
	src      origin // the file, or the variable, that is being read; line is not used
	origins  map[string]origin
	problems Problems
	unread   []string // keys whose value could not be read
	budget   int
	depth    int
}

// field is one setting or section of a struct.
type field struct {
	key string
	tag reflect.StructTag
	val reflect.Value
}

func fieldsOf(v reflect.Value) []field {
	var fs []field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if key := f.Tag.Get("key"); key != "" && key != "-" {
			fs = append(fs, field{key: key, tag: f.Tag, val: v.Field(i)})
		}
	}
	return fs
}

// defaults fills v from its tags. A default that does not parse is a bug of this package.
func (d *decoder) defaults(path string, v reflect.Value) {
	for _, f := range fieldsOf(v) {
		if f.val.Kind() == reflect.Struct {
			d.defaults(join(path, f.key), f.val)
			continue
		}
		def := f.tag.Get("default")
		if def == "" {
			continue
		}
		d.src = origin{env: "default of " + join(path, f.key)}
		d.text(join(path, f.key), def, f.val, f.tag)
		if len(d.problems) > 0 {
			panic("BUG: config: " + d.problems.Error())
		}
	}
}

// text decodes a value from the environment or a tag: a scalar as it stands, a list or map as YAML.
func (d *decoder) text(path, s string, v reflect.Value, tag reflect.StructTag) {
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s, Style: yaml.DoubleQuotedStyle}
	if k := v.Kind(); k == reflect.Slice || k == reflect.Struct {
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(s), &doc); err != nil {
			d.syntax(err)
			d.unread = append(d.unread, path)
			return
		}
		if len(doc.Content) == 0 || isNull(doc.Content[0]) {
			return
		}
		node = doc.Content[0]
	}
	d.value(path, node, v, tag)
}

func (d *decoder) fail(path string, n *yaml.Node, format string, args ...any) {
	if len(d.problems) == maxProblems {
		return
	}
	if path != "" {
		d.unread = append(d.unread, path)
	}
	d.problems = append(d.problems, d.at(n).problem(path, format, args...))
}

func (d *decoder) at(n *yaml.Node) origin {
	o := d.src
	if o.env == "" {
		o.line = n.Line
	}
	return o
}

// value writes one node into v.
func (d *decoder) value(path string, n *yaml.Node, v reflect.Value, tag reflect.StructTag) {
	d.budget--
	d.depth++
	defer func() { d.depth-- }()
	if d.budget < 0 || d.depth > 100 {
		if d.budget != -1<<30 {
			d.budget = -1 << 30 // said once
			d.fail(path, n, "expands to more than %d values; are there aliases of aliases?", maxNodes)
		}
		return
	}
	if n.Kind == yaml.AliasNode {
		d.value(path, n.Alias, v, tag)
		return
	}
	if isNull(n) {
		return // "key:" with nothing after it keeps the default
	}
	if path != "" {
		d.origins[path] = d.at(n)
	}
	switch {
	case v.Kind() == reflect.Struct:
		d.mapping(path, n, v)
	case v.Kind() == reflect.Slice:
		d.sequence(path, n, v, tag)
	case n.Kind != yaml.ScalarNode:
		d.fail(path, n, "is a %s; want %s", kindName(n), wantName(v, tag))
	default:
		d.scalar(path, n, v, tag)
	}
}

func (d *decoder) mapping(path string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.fail(path, n, "is a %s; want a map of %s", kindName(n), keyList(fieldsOf(v)))
		return
	}
	fs := fieldsOf(v)
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, val := n.Content[i], n.Content[i+1]
		at := join(path, k.Value)
		if first, dup := seen[k.Value]; dup {
			d.fail(at, k, "is given twice, first in line %d", first)
			continue
		}
		seen[k.Value] = k.Line
		j := slices.IndexFunc(fs, func(f field) bool { return f.key == k.Value })
		if k.Kind != yaml.ScalarNode || j < 0 {
			d.unknown(path, k, fs)
			continue
		}
		d.value(at, val, fs[j].val, fs[j].tag)
	}
	for _, f := range fs {
		if _, ok := seen[f.key]; !ok && f.tag.Get("required") != "" {
			d.fail(join(path, f.key), n, "is missing")
		}
	}
}

func (d *decoder) unknown(path string, k *yaml.Node, fs []field) {
	name := k.Value
	if k.Kind != yaml.ScalarNode {
		name = "?"
	}
	if name == "<<" {
		d.fail(join(path, name), k, "merge keys are not read; write the keys out")
		return
	}
	keys := make([]string, len(fs))
	for i, f := range fs {
		keys[i] = f.key
	}
	msg := "is not a setting"
	if s := nearest(name, keys); s != "" {
		msg += "; did you mean " + join(path, s) + "?"
	} else if s := elsewhere(name); s != "" && s != join(path, name) {
		msg += "; did you mean " + s + "?"
	} else {
		msg += "; want one of " + strings.Join(keys, ", ")
	}
	d.fail(join(path, clip(name)), k, "%s", msg)
}

func (d *decoder) sequence(path string, n *yaml.Node, v reflect.Value, tag reflect.StructTag) {
	if n.Kind == yaml.ScalarNode && tag.Get("line") != "" && v.Type().Elem().Kind() == reflect.String {
		v.Set(reflect.ValueOf([]string{shell, "-c", n.Value}))
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.fail(path, n, "is a %s; want a list, such as [%s]", kindName(n), exampleOf(v.Type().Elem()))
		return
	}
	out := reflect.MakeSlice(v.Type(), 0, min(len(n.Content), maxNodes))
	for i, item := range n.Content {
		e := reflect.New(v.Type().Elem()).Elem()
		at := path + "[" + strconv.Itoa(i) + "]"
		if e.Kind() == reflect.Struct {
			src := d.src
			(&decoder{origins: map[string]origin{}, budget: maxNodes}).defaults(at, e)
			d.src = src
		}
		if isNull(item) {
			d.fail(at, item, "is empty; want %s", exampleOf(v.Type().Elem()))
			continue
		}
		d.value(at, item, e, tag)
		out = reflect.Append(out, e)
		if d.budget < 0 || len(d.problems) >= maxProblems {
			break
		}
	}
	v.Set(out)
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "map"
	case yaml.SequenceNode:
		return "list"
	}
	return "single value"
}

// exampleOf shows one item of a list.
func exampleOf(t reflect.Type) string {
	if t.Kind() != reflect.Struct {
		return `"a", "b"`
	}
	var parts []string
	for _, f := range fieldsOf(reflect.New(t).Elem()) {
		if f.tag.Get("required") != "" {
			parts = append(parts, f.key+": …")
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func keyList(fs []field) string {
	keys := make([]string, len(fs))
	for i, f := range fs {
		keys[i] = f.key
	}
	return strings.Join(keys, ", ")
}
