package config

import (
	"reflect"
	"strings"
)

// nearest is the name closest to s by edit distance, "" when none is close enough to be a slip of the pen.
func nearest(s string, names []string) string {
	if len(s) > 64 {
		return ""
	}
	most := max(2, len(s)/3)
	if len(s) <= 3 {
		most = 1
	}
	best, bestDist := "", most+1
	norm := func(s string) string { return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(s)) }
	for _, n := range names {
		d := Distance(norm(s), norm(n))
		if d < bestDist {
			best, bestDist = n, d
		}
	}
	return best
}

func suggestion(s string, names []string) string {
	if n := nearest(s, names); n != "" {
		return "; did you mean " + n + "?"
	}
	return ""
}

// elsewhere finds a key of this name in another section.
func elsewhere(name string) string {
	found := ""
	walk("", reflect.TypeFor[Config](), func(path string, _ reflect.StructField) {
		if found == "" && (strings.HasSuffix(path, "."+name) || strings.HasSuffix(path, "]."+name)) {
			found = path
		}
	})
	return found
}

// walk calls f for each setting and section below t, in the order of declaration; items of lists have the path "list[]".
func walk(path string, t reflect.Type, f func(path string, sf reflect.StructField)) {
	for i := range t.NumField() {
		sf := t.Field(i)
		key := sf.Tag.Get("key")
		if key == "" || key == "-" {
			continue
		}
		at := join(path, key)
		f(at, sf)
		switch {
		case sf.Type.Kind() == reflect.Struct:
			walk(at, sf.Type, f)
		case sf.Type.Kind() == reflect.Slice && sf.Type.Elem().Kind() == reflect.Struct:
			walk(at+"[]", sf.Type.Elem(), f)
		}
	}
}

// Distance is Levenshtein's, in bytes: how far a word is from one that was perhaps meant.
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diag, row[j] = row[j], min(row[j]+1, row[j-1]+1, diag+cost)
		}
	}
	return row[len(b)]
}

// clip keeps messages short whatever the file holds.
func clip(s string) string {
	const most = 60
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most]) + "…"
}
