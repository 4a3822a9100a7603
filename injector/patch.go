package injector

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Operation is one step of a JSON patch (RFC 6902).
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// MarshalJSON keeps a value that is null, which add and replace need and remove does not have.
func (o Operation) MarshalJSON() ([]byte, error) {
	type whole Operation
	if o.Op != "remove" {
		return json.Marshal(whole(o))
	}
	return json.Marshal(struct {
		Op   string `json:"op"`
		Path string `json:"path"`
	}{o.Op, o.Path})
}

// Patch is what makes of one object the other. Both are our own view of the object: what a newer API server knows and
// we do not is in neither, so the patch leaves it alone. It says little about lists: what is inserted into one is
// added where it is, so that the items behind it stay untouched.
func Patch(from, to any) ([]Operation, error) {
	var trees [2]any
	for i, v := range []any{from, to} {
		text, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("cannot write the object: %w", err)
		}
		if err := json.Unmarshal(text, &trees[i]); err != nil {
			return nil, fmt.Errorf("cannot read the object back: %w", err)
		}
	}
	var ops []Operation
	diff("", trees[0], trees[1], &ops)
	return ops, nil
}

func diff(path string, a, b any, ops *[]Operation) {
	switch a := a.(type) {
	case map[string]any:
		if b, ok := b.(map[string]any); ok {
			diffMap(path, a, b, ops)
			return
		}
	case []any:
		if b, ok := b.([]any); ok && inserted(a, b) != nil {
			diffList(path, a, b, ops)
			return
		}
	}
	if !reflect.DeepEqual(a, b) {
		*ops = append(*ops, Operation{Op: "replace", Path: path, Value: b})
	}
}

func diffMap(path string, a, b map[string]any, ops *[]Operation) {
	for _, key := range slices.Sorted(maps.Keys(a)) {
		at := path + "/" + pointer(key)
		if value, ok := b[key]; ok {
			diff(at, a[key], value, ops)
		} else {
			*ops = append(*ops, Operation{Op: "remove", Path: at})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[key]; !ok {
			*ops = append(*ops, Operation{Op: "add", Path: path + "/" + pointer(key), Value: b[key]})
		}
	}
}

func diffList(path string, a, b []any, ops *[]Operation) {
	old := 0
	for i, isNew := range inserted(a, b) {
		at := path + "/" + strconv.Itoa(i)
		if isNew {
			*ops = append(*ops, Operation{Op: "add", Path: at, Value: b[i]})
			continue
		}
		diff(at, a[old], b[i], ops)
		old++
	}
}

// inserted says which items of b were added to those of a, whose order must be the same; nil when it is not so.
func inserted(a, b []any) []bool {
	isNew := make([]bool, len(b))
	old := 0
	for i, item := range b {
		if old < len(a) && same(a[old], item) {
			old++
		} else {
			isNew[i] = true
		}
	}
	if old < len(a) || len(b) == 0 {
		return nil
	}
	return isNew
}

// same tells whether two items are the same one, perhaps changed: by name or, for ports, by number.
func same(a, b any) bool {
	x, ok := a.(map[string]any)
	y, too := b.(map[string]any)
	if !ok || !too {
		return reflect.DeepEqual(a, b)
	}
	for _, key := range []string{"name", "containerPort", "mountPath"} {
		if x[key] != nil && reflect.DeepEqual(x[key], y[key]) {
			return true
		}
	}
	return reflect.DeepEqual(x, y)
}

func pointer(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}
