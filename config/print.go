package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// YAML prints every setting with its effective value, in a form that Load reads again.
func (c *Config) YAML() string {
	var b strings.Builder
	printMap(&b, reflect.ValueOf(c).Elem(), "")
	return b.String()
}

func printMap(b *strings.Builder, v reflect.Value, indent string) {
	for _, f := range fieldsOf(v) {
		switch {
		case f.val.Kind() == reflect.Struct:
			fmt.Fprintf(b, "%s%s:\n", indent, f.key)
			printMap(b, f.val, indent+"  ")
		case f.val.Kind() == reflect.Slice && f.val.Len() == 0:
			fmt.Fprintf(b, "%s%s: []\n", indent, f.key)
		case f.val.Kind() == reflect.Slice:
			fmt.Fprintf(b, "%s%s:\n", indent, f.key)
			for i := range f.val.Len() {
				printItem(b, f.val.Index(i), indent, f.expands())
			}
		default:
			fmt.Fprintf(b, "%s%s: %s\n", indent, f.key, scalarText(f.shown(), f.expands()))
		}
	}
}

// printItem prints one item of a list; the first key of a map stands behind the dash.
func printItem(b *strings.Builder, v reflect.Value, indent string, expands bool) {
	if v.Kind() != reflect.Struct {
		fmt.Fprintf(b, "%s- %s\n", indent, scalarText(v, expands))
		return
	}
	var item strings.Builder
	printMap(&item, v, indent+"  ")
	fmt.Fprintf(b, "%s- %s", indent, strings.TrimPrefix(item.String(), indent+"  "))
}

func scalarText(v reflect.Value, expands bool) string {
	if v.Kind() == reflect.String {
		s := v.String()
		if expands {
			s = strings.ReplaceAll(s, "${", "$${")
		}
		// A JSON string is a YAML string; strconv.Quote's escapes are a subset of YAML's.
		return strconv.Quote(s)
	}
	return fmt.Sprint(plain(v))
}

// shown is the field's value without what nobody may read who sees the settings.
func (f field) shown() reflect.Value {
	if f.tag.Get("mask") == "" {
		return f.val
	}
	return reflect.ValueOf(MaskQuery(f.val.String()))
}

// Tree is the settings as maps and lists of plain values, for JSON.
func (c *Config) Tree() map[string]any { return tree(reflect.ValueOf(c).Elem()) }

func tree(v reflect.Value) map[string]any {
	m := map[string]any{}
	for _, f := range fieldsOf(v) {
		m[f.key] = plain(f.shown())
	}
	return m
}

func plain(v reflect.Value) any {
	switch {
	case v.Kind() == reflect.Struct:
		return tree(v)
	case v.Type() == durationType:
		return short(time.Duration(v.Int()))
	case v.Type() == sizeType:
		return Size(v.Int()).String()
	case v.Kind() == reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = plain(v.Index(i))
		}
		return list
	case v.Kind() == reflect.Bool:
		return v.Bool()
	case v.Kind() == reflect.Int:
		return v.Int()
	case v.Kind() == reflect.Float64:
		return v.Float()
	}
	return v.String()
}
