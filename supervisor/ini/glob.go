package ini

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func hasMagic(s string) bool { return strings.ContainsAny(s, "*?[") }

// glob lists what matches a pattern as Python's glob.glob does, sorted: hidden names only by a
// pattern that starts with a dot, [!x] negates, a backslash is a backslash.
func glob(pattern string) []string {
	found := globPath(pattern, false)
	slices.Sort(found)
	return found
}

func globPath(pattern string, dirsOnly bool) []string {
	dir, base := splitPath(pattern)
	if !hasMagic(pattern) {
		if base == "" && !isDir(dir) || base != "" && !exists(pattern) {
			return nil
		}
		return []string{pattern}
	}
	dirs := []string{dir}
	if dir != pattern && hasMagic(dir) {
		dirs = globPath(dir, true)
	}
	var found []string
	for _, d := range dirs {
		for _, name := range globNames(d, base, dirsOnly) {
			found = append(found, filepath.Join(d, name))
		}
	}
	return found
}

func globNames(dir, base string, dirsOnly bool) []string {
	if !hasMagic(base) {
		if exists(filepath.Join(dir, base)) {
			return []string{base}
		}
		return nil
	}
	read := dir
	if read == "" {
		read = "."
	}
	entries, err := os.ReadDir(read)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(base, ".") {
			continue
		}
		if dirsOnly && !isDir(filepath.Join(dir, e.Name())) {
			continue
		}
		if fnmatch([]rune(base), []rune(e.Name())) {
			names = append(names, e.Name())
		}
	}
	return names
}

// splitPath is Python's os.path.split.
func splitPath(p string) (dir, base string) {
	i := strings.LastIndexByte(p, '/') + 1
	dir, base = p[:i], p[i:]
	if trimmed := strings.TrimRight(dir, "/"); trimmed != "" {
		dir = trimmed
	}
	return dir, base
}

// fnmatch goes back only to the last star, so that it takes no more than len(p)·len(s) steps.
func fnmatch(p, s []rune) bool {
	pi, si := 0, 0
	starP, starS := -1, 0
	for si < len(s) {
		if pi < len(p) && p[pi] == '*' {
			starP, starS = pi, si
			pi++
			continue
		}
		if n, ok := matchOne(p[pi:], s[si]); ok {
			pi += n
			si++
			continue
		}
		if starP < 0 {
			return false
		}
		starS++
		pi, si = starP+1, starS
	}
	for pi < len(p) && p[pi] == '*' {
		pi++
	}
	return pi == len(p)
}

// matchOne matches one rune with the first element of p and tells how long that element is.
func matchOne(p []rune, r rune) (int, bool) {
	if len(p) == 0 {
		return 0, false
	}
	if p[0] == '?' {
		return 1, true
	}
	if p[0] != '[' {
		return 1, p[0] == r
	}
	end := 1
	if end < len(p) && p[end] == '!' {
		end++
	}
	if end < len(p) && p[end] == ']' {
		end++
	}
	for end < len(p) && p[end] != ']' {
		end++
	}
	if end >= len(p) {
		return 1, r == '['
	}
	set := p[1:end]
	negate := set[0] == '!'
	if negate {
		set = set[1:]
	}
	in := false
	for i := 0; i < len(set); i++ {
		if i+2 < len(set) && set[i+1] == '-' {
			in = in || set[i] <= r && r <= set[i+2]
			i += 2
		} else {
			in = in || set[i] == r
		}
	}
	return end + 1, in != negate
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}
