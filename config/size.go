package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes, written as 64Ki, 1Mi, 100Gi, 1GB or in plain bytes.
type Size int64

// unit is one suffix. Ki is 1024 as in Kubernetes, KB 1000 as SI has it.
type unit struct {
	name  string
	bytes int64
}

// The largest first, so that String takes the shortest.
var units = []unit{
	{"Ti", 1 << 40},
	{"TB", 1e12},
	{"Gi", 1 << 30},
	{"GB", 1e9},
	{"Mi", 1 << 20},
	{"MB", 1e6},
	{"Ki", 1 << 10},
	{"KB", 1e3},
}

// String writes the size in the largest unit that leaves a whole number, as Load reads it again.
func (s Size) String() string {
	for _, u := range units {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// parseSize reads a size; the second result says what is wrong, "" means nothing.
func parseSize(text string) (Size, string) {
	s := strings.TrimSpace(text)
	end := len(s) - len(strings.TrimLeft(s, "+-0123456789"))
	number, name := s[:end], strings.TrimSpace(s[end:])
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil && strings.Trim(number, "0123456789") != "" || number == "" {
		return 0, fmt.Sprintf("%q is not a size; want bytes or one such as 64Ki, 1Mi, 100Gi or 1GB", clip(text))
	}
	factor := int64(1)
	if name != "" && name != "B" {
		factor = 0
		for _, u := range units {
			if name == u.name || name == u.name+"B" && u.name[1] == 'i' {
				factor = u.bytes
			}
		}
	}
	switch {
	case factor == 0 && len(name) == 1 && strings.Contains("KMGT", strings.ToUpper(name)):
		// Kubernetes takes K for 1000, nginx for 1024: better asked than guessed.
		k := strings.ToUpper(name)
		return 0, fmt.Sprintf("%q may mean two sizes; write %s%si or %s%sB", clip(text), clip(number), k, clip(number), k)
	case factor == 0:
		return 0, fmt.Sprintf("%q is not a size; want bytes or one such as 64Ki, 1Mi, 100Gi or 1GB", clip(text))
	case err != nil || n > math.MaxInt64/factor || n < math.MinInt64/factor:
		return 0, fmt.Sprintf("%q is too large", clip(text))
	}
	return Size(n * factor), ""
}
