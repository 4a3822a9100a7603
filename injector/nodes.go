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
func merges(n *yaml.Node) bool {
	if n.Kind == yaml.MappingNode {
		for i := 0; i < len(n.Content); i += 2 {
			if n.Content[i].Tag == "!!merge" {
				return true
			}
		}
	}
	for _, c := range n.Content {
		if merges(c) {
			return true
		}
	}
	return n.Kind == yaml.AliasNode && merges(n.Alias)
}

// apply changes a tree by one operation of Patch. Order, style and comments of the rest stay.
func apply(root *yaml.Node, op Operation) error {
	keys := strings.Split(strings.TrimPrefix(op.Path, "/"), "/")
	for i, key := range keys {
		keys[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(key)
	}
	n := root
	for _, key := range keys[:len(keys)-1] {
		next, err := step(n, key)
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
		return applyToList(n, last, op.Op, &fresh)
	}
	n.Style &^= yaml.FlowStyle
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != last {
			continue
		}
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

func applyToList(n *yaml.Node, key, op string, fresh *yaml.Node) error {
	i, err := strconv.Atoi(key)
	if err != nil || i > len(n.Content) || i == len(n.Content) && op != "add" {
		return fmt.Errorf("%q is no place in a list of %d", key, len(n.Content))
	}
	if fresh.Kind != yaml.ScalarNode { // [a, b] takes another word and keeps the comment behind it
		n.Style &^= yaml.FlowStyle
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
// to is copied first, so that the other places which refer to it stay as they are.
func step(n *yaml.Node, key string) (*yaml.Node, error) {
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
	if c.Kind == yaml.AliasNode {
		c = clone(c.Alias)
		n.Content[at] = c
	}
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
