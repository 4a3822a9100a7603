package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
)

// scalar writes a single value into v, whose type says how it is read.
func (d *decoder) scalar(path string, n *yaml.Node, v reflect.Value, tag reflect.StructTag) {
	msg := ""
	switch {
	case v.Type() == durationType:
		msg = setDuration(v, n.Value)
	case v.Type() == sizeType:
		msg = setSize(v, n.Value)
	case v.Kind() == reflect.Bool:
		msg = setBool(v, n.Value)
	case v.Kind() == reflect.Int:
		msg = setInt(v, n.Value)
	case v.Kind() == reflect.Float64:
		msg = setFloat(v, n.Value)
	case v.Kind() == reflect.String:
		msg = setString(v, n.Value, tag.Get("enum"))
	default:
		panic(fmt.Sprintf("BUG: config: %s has a type that is not read: %s", path, v.Type()))
	}
	if msg != "" {
		d.fail(path, n, "%s", msg)
	}
}

// The set functions return what is wrong with s; "" means that it was taken.

func setDuration(v reflect.Value, s string) string {
	t, err := time.ParseDuration(strings.TrimSpace(s))
	if err != nil {
		if _, numErr := strconv.ParseFloat(s, 64); numErr == nil {
			return fmt.Sprintf("%q has no unit; write %ss", clip(s), clip(s))
		}
		return fmt.Sprintf("%q is not a duration; want one such as 60s, 1m30s or 500ms", clip(s))
	}
	v.SetInt(int64(t))
	return ""
}

func setSize(v reflect.Value, s string) string {
	size, msg := parseSize(s)
	if msg == "" {
		v.SetInt(int64(size))
	}
	return msg
}

func setBool(v reflect.Value, s string) string {
	switch strings.ToLower(s) {
	case "true":
		v.SetBool(true)
	case "false":
		v.SetBool(false)
	default:
		return fmt.Sprintf("%q is not true or false", clip(s))
	}
	return ""
}

func setInt(v reflect.Value, s string) string {
	i, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) || v.OverflowInt(i):
		return fmt.Sprintf("%q is too large", clip(s))
	case err != nil:
		return fmt.Sprintf("%q is not a whole number", clip(s))
	}
	v.SetInt(i)
	return ""
}

func setFloat(v reflect.Value, s string) string {
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Sprintf("%q is not a number", clip(s))
	}
	v.SetFloat(f)
	return ""
}

func setString(v reflect.Value, s, enum string) string {
	if values := strings.Split(enum, "|"); enum != "" && !slices.Contains(values, s) {
		return fmt.Sprintf("%q is not one of %s%s", clip(s), strings.Join(values, ", "), suggestion(s, values))
	}
	v.SetString(s)
	return ""
}

// wantName names a scalar type for messages.
func wantName(v reflect.Value, tag reflect.StructTag) string {
	switch {
	case tag.Get("enum") != "":
		return "one of " + strings.ReplaceAll(tag.Get("enum"), "|", ", ")
	case v.Type() == durationType:
		return "a duration such as 60s"
	case v.Type() == sizeType:
		return "a size such as 64Ki"
	case v.Kind() == reflect.Bool:
		return "true or false"
	case v.Kind() == reflect.Int:
		return "a whole number"
	case v.Kind() == reflect.Float64:
		return "a number"
	}
	return "a single value"
}
