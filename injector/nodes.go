package injector

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// child returns the value of a key of a map, nil when there is none.
func child(n *yaml.Node, key string) *yaml.Node {
	n = target(n)
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// value returns a key's text.
func value(n *yaml.Node, key string) string {
	if c := target(child(n, key)); c != nil && c.Kind == yaml.ScalarNode {
		return c.Value
	}
	return ""
}

func target(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// merges tells whether a tree has the merge key.
func merges(n *yaml.Node, seen map[*yaml.Node]bool) bool {
	if n == nil || seen[n] {
		return false
	}
	seen[n] = true
	if n.Kind == yaml.MappingNode {
		for i := 0; i < len(n.Content); i += 2 {
			if n.Content[i].Tag == "!!merge" {
				return true
			}
		}
	}
	for _, c := range n.Content {
		if merges(c, seen) {
			return true
		}
	}
	return merges(n.Alias, seen)
}

// maxNodes bounds what aliases may make of a pod, which has some hundred nodes. It also ends aliases that refer to what
// they are in.
const maxNodes = 100_000

// expanded is a tree as text with all that its aliases refer to, also where that is outside of it.
func expanded(n *yaml.Node) ([]byte, error) {
	left := maxNodes
	whole := resolve(n, &left)
	if left < 0 {
		return nil, errors.New("its aliases refer to what they are in, or to too much")
	}
	return yaml.Marshal(whole)
}

func resolve(n *yaml.Node, left *int) *yaml.Node {
	n = target(n)
	c := *n
	c.Anchor, c.Content = "", nil
	for _, child := range n.Content {
		if *left--; *left < 0 {
			break
		}
		c.Content = append(c.Content, resolve(child, left))
	}
	return &c
}

// podOf is the pod of an object, which nothing else refers to any more, so that it can be changed.
func podOf(root, object *yaml.Node, path []string) (*yaml.Node, error) {
	n := object
	unalias(n)
	unshare(root, n)
	for _, key := range path {
		next, err := step(root, n, key)
		if err != nil {
			return nil, err
		}
		n = next
	}
	return n, nil
}

// unalias puts what an alias refers to in its place.
func unalias(n *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		*n = *clone(n.Alias)
	}
}

// unshare takes the anchor from a node that is about to change: what refers to it keeps what it meant.
func unshare(root, n *yaml.Node) {
	if n.Anchor == "" {
		return
	}
	var visit func(*yaml.Node)
	visit = func(other *yaml.Node) {
		if other.Alias == n {
			unalias(other)
		}
		for _, c := range other.Content {
			visit(c)
		}
	}
	visit(root)
	n.Anchor = ""
}

// unshareAll is unshare for all of a tree that is about to go.
func unshareAll(root, n *yaml.Node) {
	unshare(root, n)
	for _, c := range n.Content {
		unshareAll(root, c)
	}
}

// apply changes the tree n, which is in that of root, by one operation of Patch. Order, style and comments of the rest
// stay.
func apply(root, n *yaml.Node, op Operation) error {
	keys := strings.Split(strings.TrimPrefix(op.Path, "/"), "/")
	for i, key := range keys {
		keys[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(key)
	}
	for _, key := range keys[:len(keys)-1] {
		next, err := step(root, n, key)
		if err != nil {
			return err
		}
		n = next
	}
	var fresh yaml.Node
	if op.Op != "remove" {
		if err := fresh.Encode(op.Value); err != nil {
			return err
		}
	}
	last := keys[len(keys)-1]
	if n.Kind == yaml.SequenceNode {
		return applyToList(root, n, last, op.Op, &fresh)
	}
	n.Style &^= yaml.FlowStyle
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != last {
			continue
		}
		unshareAll(root, n.Content[i+1])
		if op.Op == "remove" {
			n.Content = append(n.Content[:i], n.Content[i+2:]...)
		} else {
			n.Content[i+1] = &fresh
		}
		return nil
	}
	if op.Op != "remove" {
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: last}, &fresh)
	}
	return nil
}

func applyToList(root, n *yaml.Node, key, op string, fresh *yaml.Node) error {
	i, err := strconv.Atoi(key)
	if err != nil || i > len(n.Content) || i == len(n.Content) && op != "add" {
		return fmt.Errorf("%q is no place in a list of %d", key, len(n.Content))
	}
	if fresh.Kind != yaml.ScalarNode { // [a, b] takes another word and keeps the comment behind it
		n.Style &^= yaml.FlowStyle
	}
	if op != "add" {
		unshareAll(root, n.Content[i])
	}
	switch op {
	case "add":
		n.Content = append(n.Content[:i], append([]*yaml.Node{fresh}, n.Content[i:]...)...)
	case "remove":
		n.Content = append(n.Content[:i], n.Content[i+1:]...)
	default:
		n.Content[i] = fresh
	}
	return nil
}

// step goes down one key. A map that our view of the object has and the text has not is made; what an alias refers
// to is copied first, so that the other places which refer to it stay as they are, and so do those that refer to this one.
func step(root, n *yaml.Node, key string) (*yaml.Node, error) {
	at := -1
	switch n.Kind {
	case yaml.SequenceNode:
		i, err := strconv.Atoi(key)
		if err != nil || i >= len(n.Content) {
			return nil, fmt.Errorf("%q is no place in a list of %d", key, len(n.Content))
		}
		at = i
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				at = i + 1
			}
		}
		if at < 0 {
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"})
			at = len(n.Content) - 1
		}
	default:
		return nil, errors.New("there is neither a map nor a list")
	}
	c := n.Content[at]
	unalias(c)
	unshare(root, c)
	if c.Kind == yaml.ScalarNode && c.Tag == "!!null" { // "annotations:" with nothing behind it
		*c = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	}
	return c, nil
}

func clone(n *yaml.Node) *yaml.Node {
	c := *n
	c.Anchor = ""
	c.Content = nil
	for _, child := range n.Content {
		c.Content = append(c.Content, clone(child))
	}
	return &c
}
