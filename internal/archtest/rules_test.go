package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/inpod/inpod"

// source is one parsed file.
type source struct {
	name  string // from the module's root
	dir   string // its package
	test  bool
	made  bool // generated
	lines int
	set   *token.FileSet
	ast   *ast.File
}

// load parses every Go file of the module, whatever its build tags say.
func load(root fs.FS) ([]source, error) {
	var files []source
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() {
			if name != "." && (base == "testdata" || base[0] == '.' || base[0] == '_') {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, text, parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, source{
			name: name, dir: path.Dir(name), set: set, ast: file,
			test: strings.HasSuffix(name, "_test.go"), made: ast.IsGenerated(file), lines: bytes.Count(text, []byte("\n")),
		})
		return nil
	})
	return files, err
}

// imports returns the paths that f imports, by the name each has in it.
func (f source) imports() map[string]string {
	found := map[string]string{}
	for _, spec := range f.ast.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(p)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if name == "_" || found[name] != "" {
			name = p
		}
		found[name] = p
	}
	return found
}

func (f source) at(n ast.Node, format string, args ...any) string {
	return fmt.Sprintf("%s:%d: %s", f.name, f.set.Position(n.Pos()).Line, fmt.Sprintf(format, args...))
}

// under tells whether dir is one of trees or lies in one.
func under(dir string, trees []string) bool {
	return slices.ContainsFunc(trees, func(t string) bool { return dir == t || strings.HasPrefix(dir, t+"/") })
}

func blackBox(dir string) (may []string, ok bool) {
	for tree, may := range black {
		if under(dir, []string{tree}) {
			return may, true
		}
	}
	return nil, false
}

// edges holds imports among our own packages against the table. Test files may import what their package may, and
// in an external test package also what sits above it.
func edges(files []source) (faults []string) {
	for _, f := range files {
		may, known := table[f.dir]
		tree, isBlack := blackBox(f.dir)
		if !known && !isBlack {
			faults = append(faults, f.at(f.ast.Name, "package %s is not in the import table", f.dir))
			continue
		}
		for _, spec := range f.ast.Imports {
			p, _ := strconv.Unquote(spec.Path.Value)
			to, ours := strings.CutPrefix(p, module+"/")
			switch {
			case !ours || f.test && !isBlack:
			case isBlack && !under(to, tree):
				faults = append(faults, f.at(spec, "%s is a black-box test and may not import %s", f.dir, to))
			case !isBlack && !slices.Contains(may, to):
				faults = append(faults, f.at(spec, "%s may not import %s", f.dir, to))
			}
		}
	}
	return faults
}

// owners holds foreign imports against their owners, file by file and binary by binary.
func owners(files []source) (faults []string) {
	graph := map[string][]string{}
	for _, f := range files {
		for _, spec := range f.ast.Imports {
			p, _ := strconv.Unquote(spec.Path.Value)
			for prefix, trees := range owner {
				if strings.HasPrefix(p, prefix) && !under(f.dir, trees) && !f.test {
					faults = append(faults, f.at(spec, "only %s may import %s", strings.Join(trees, ", "), p))
				}
			}
			if !f.test {
				graph[f.dir] = append(graph[f.dir], p)
			}
		}
	}
	for binary, banned := range without {
		for p, via := range reach(graph, binary) {
			for _, prefix := range banned {
				if strings.HasPrefix(p, prefix) {
					faults = append(faults, fmt.Sprintf("%s must not hold %s, which %s imports", binary, p, via))
				}
			}
		}
	}
	return faults
}

// reach returns everything that dir imports through our own packages, each with the package that imports it.
func reach(graph map[string][]string, dir string) map[string]string {
	via := map[string]string{}
	for queue := []string{dir}; len(queue) > 0; queue = queue[1:] {
		for _, p := range graph[queue[0]] {
			if via[p] != "" {
				continue
			}
			via[p] = queue[0]
			if own, ours := strings.CutPrefix(p, module+"/"); ours {
				queue = append(queue, own)
			}
		}
	}
	return via
}

// spawns finds uses of what only internal/proc may use.
func spawns(files []source) (faults []string) {
	for _, f := range files {
		if _, isBlack := blackBox(f.dir); isBlack || f.test || f.dir == "internal/proc" {
			continue
		}
		imports := f.imports()
		for _, spec := range f.ast.Imports {
			p, _ := strconv.Unquote(spec.Path.Value)
			if slices.Contains(spawning[p], "") {
				faults = append(faults, f.at(spec, "only internal/proc may import %s", p))
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Obj == nil && slices.Contains(spawning[imports[x.Name]], n.Sel.Name) {
					faults = append(faults, f.at(n, "only internal/proc may use %s.%s", imports[x.Name], n.Sel.Name))
				}
			case *ast.KeyValueExpr:
				if k, ok := n.Key.(*ast.Ident); ok && slices.Contains(fields, k.Name) {
					faults = append(faults, f.at(n, "nobody may set %s", k.Name))
				}
			}
			return true
		})
	}
	return faults
}

// sizes finds files and functions that are too long, and init functions.
func sizes(files []source) (faults, remarks []string) {
	for _, f := range files {
		if f.made {
			continue
		}
		if f.lines > maxFile {
			faults = append(faults, fmt.Sprintf("%s: %d lines, at most %d", f.name, f.lines, maxFile))
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if fn.Recv == nil && fn.Name.Name == "init" {
				faults = append(faults, f.at(fn, "no init functions: use a constructor"))
			}
			n := f.set.Position(fn.End()).Line - f.set.Position(fn.Pos()).Line + 1
			most := maxFunc
			if f.test {
				most = maxTestFunc
			}
			if n > most {
				faults = append(faults, f.at(fn, "%s has %d lines, at most %d", fn.Name.Name, n, most))
			} else if n > longFunc && !f.test {
				remarks = append(remarks, f.at(fn, "%s has %d lines, better %d", fn.Name.Name, n, longFunc))
			}
		}
	}
	return faults, remarks
}
