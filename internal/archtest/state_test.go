package archtest

import (
	"go/ast"
	"go/token"
	"slices"
)

// state finds package variables that change: assigned to in a function, or of a type that exists to be changed.
func state(files []source) (faults []string) {
	vars := map[string]map[string]bool{} // by package
	for _, f := range files {
		if vars[f.dir] == nil {
			vars[f.dir] = map[string]bool{}
		}
		for _, spec := range packageVars(f) {
			for _, name := range spec.Names {
				vars[f.dir][name.Name] = true
			}
		}
	}
	for _, f := range files {
		if _, isBlack := blackBox(f.dir); f.test || isBlack {
			continue
		}
		fault := func(n ast.Node, name string) {
			if mutable[f.dir+"."+name] == "" {
				faults = append(faults, f.at(n, "package variable %s changes: give it an owner", name))
			}
		}
		for _, spec := range packageVars(f) {
			if changing(f, spec.Type) {
				fault(spec, spec.Names[0].Name)
			}
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				for _, target := range assigned(n) {
					if id := root(target); id != nil && vars[f.dir][id.Name] && global(f, id) {
						fault(id, id.Name)
					}
				}
				return true
			})
		}
	}
	return faults
}

func packageVars(f source) (specs []*ast.ValueSpec) {
	for _, d := range f.ast.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
			for _, s := range g.Specs {
				specs = append(specs, s.(*ast.ValueSpec))
			}
		}
	}
	return specs
}

// changing tells whether a variable of this type can only be meant to change.
func changing(f source, typ ast.Expr) bool {
	if index, ok := typ.(*ast.IndexExpr); ok {
		typ = index.X // atomic.Pointer[T]
	}
	sel, ok := typ.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && slices.Contains([]string{"sync", "sync/atomic"}, f.imports()[x.Name])
}

// assigned returns what a statement assigns to.
func assigned(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	}
	return nil
}

// root returns the variable that x.y[z] is a part of.
func root(e ast.Expr) *ast.Ident {
	switch e := e.(type) {
	case *ast.Ident:
		return e
	case *ast.IndexExpr:
		return root(e.X)
	case *ast.SelectorExpr:
		return root(e.X)
	case *ast.StarExpr:
		return root(e.X)
	case *ast.ParenExpr:
		return root(e.X)
	}
	return nil
}

// global tells whether id means a variable of the package: one declared in this file outside all functions, or one
// that this file does not declare at all.
func global(f source, id *ast.Ident) bool {
	if id.Obj == nil {
		return true
	}
	spec, ok := id.Obj.Decl.(*ast.ValueSpec)
	return ok && slices.Contains(packageVars(f), spec)
}
