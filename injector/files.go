package injector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kyaml "sigs.k8s.io/yaml"
)

// maxFile bounds what is read offline: a chart of hundreds of objects has a few megabytes.
const maxFile = 64 << 20

// templates says where the pod is in an object of a kind.
var templates = map[string][]string{
	"Pod":                   {},
	"PodTemplate":           {"template"},
	"Deployment":            {"spec", "template"},
	"StatefulSet":           {"spec", "template"},
	"DaemonSet":             {"spec", "template"},
	"ReplicaSet":            {"spec", "template"},
	"ReplicationController": {"spec", "template"},
	"Job":                   {"spec", "template"},
	"CronJob":               {"spec", "jobTemplate", "spec", "template"},
}

// Found is one object with a pod in it, and what became of it.
type Found struct {
	Object string // Deployment team/web
	Line   int
	Report Report
	Err    error
}

// Offline reads manifests instead of being asked by an API server.
type Offline struct {
	Settings Settings
	Mode     string // given to pods that have no label; "": they are left alone
}

// Inject reads YAML or JSON, of several documents and lists, and returns it with inpod in its pods. Documents without
// such a pod come back byte by byte, and in the others order and comments stay. The error is for text that cannot be
// read; what is refused is in the list, and left as it is.
func (o Offline) Inject(ctx context.Context, in io.Reader) ([]byte, []Found, error) {
	text, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err != nil {
		return nil, nil, err
	}
	if len(text) > maxFile {
		return nil, nil, fmt.Errorf("is larger than %d MiB", maxFile>>20)
	}
	if !utf8.Valid(text) {
		return nil, nil, errors.New("is not text: want YAML in UTF-8")
	}
	docs, err := split(text)
	if err != nil {
		return nil, nil, err
	}
	o.Settings.ConfigMaps = known{docs, o.Settings.ConfigMaps}
	var out bytes.Buffer
	var all []Found
	for _, d := range docs {
		found, err := o.document(ctx, d, docs)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, found...)
		if !slices.ContainsFunc(found, func(f Found) bool { return f.Err == nil && f.Report.Mode != "" }) {
			out.WriteString(d.text)
			continue
		}
		out.WriteString(d.separator)
		if separator := strings.TrimRight(d.separator, " \t"); separator == "---" { // a map does not begin in its line
			out.Truncate(out.Len() - len(d.separator) + len(separator))
			out.WriteString("\n")
		}
		enc := yaml.NewEncoder(&out)
		enc.SetIndent(2)
		enc.CompactSeqIndent()
		if err := errors.Join(enc.Encode(d.root), enc.Close()); err != nil {
			return nil, nil, fmt.Errorf("line %d: cannot write the object back: %w", d.line, err)
		}
	}
	return out.Bytes(), all, nil
}

// yamlLine is where an error of the YAML parser names a line, of the document and not of the file.
var yamlLine = regexp.MustCompile(`line \d+`)

// document is one of a file.
type document struct {
	text      string // with its separator
	separator string
	line      int        // of its first line, from 1
	root      *yaml.Node // nil when empty
}

// split cuts a file at the lines that begin with ---.
func split(text []byte) (docs []document, err error) {
	line := 1
	current := document{line: 1}
	flush := func() error {
		err := current.parse()
		docs = append(docs, current)
		return err
	}
	for l := range strings.SplitAfterSeq(string(text), "\n") {
		if rest, ok := strings.CutPrefix(l, "---"); ok && (rest == "" || strings.ContainsAny(rest[:1], " \t\r\n")) {
			if err := flush(); err != nil {
				return nil, err
			}
			current = document{separator: l, line: line + 1}
			if content := strings.TrimLeft(rest, " \t\r\n"); content != "" && content[0] != '#' { // the object begins in the same line
				current.separator, current.line = l[:len(l)-len(content)], line
			}
		}
		current.text += l
		line++
	}
	return docs, flush()
}

// parse reads the document, which holds one object: what came behind it would be lost.
func (d *document) parse() error {
	// The separator stays as it is, so a comment in it must not become one of the object.
	var separator, root, more yaml.Node
	err := yaml.Unmarshal([]byte(d.separator), &separator)
	if err == nil {
		dec := yaml.NewDecoder(strings.NewReader(d.text[len(d.separator):]))
		if err = dec.Decode(&root); err == nil {
			if next := dec.Decode(&more); !errors.Is(next, io.EOF) {
				err = fmt.Errorf("line %d: something follows the object; write a line with --- before the next one", lastLine(root.Content)+1)
			}
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return errors.New(yamlLine.ReplaceAllStringFunc(strings.TrimPrefix(err.Error(), "yaml: "), func(line string) string {
			n, _ := strconv.Atoi(strings.TrimPrefix(line, "line "))
			return fmt.Sprintf("line %d", d.line+n-1)
		}))
	}
	if len(root.Content) == 1 {
		d.root = &root
	}
	return nil
}

func lastLine(nodes []*yaml.Node) int {
	last := 0
	for _, n := range nodes {
		last = max(last, n.Line, lastLine(n.Content))
	}
	return last
}

// objects are those of a document: one, or the items of a list.
func (d document) objects() []*yaml.Node {
	if d.root == nil {
		return nil
	}
	object := d.root.Content[0]
	if !strings.HasSuffix(value(object, "kind"), "List") {
		return []*yaml.Node{object}
	}
	if items := target(child(object, "items")); items != nil && items.Kind == yaml.SequenceNode {
		return items.Content
	}
	return nil
}

func (o Offline) document(ctx context.Context, d document, all []document) (found []Found, err error) {
	for _, object := range d.objects() {
		f, err := o.object(ctx, d, object, all)
		if err != nil {
			return nil, err
		}
		found = append(found, f...)
	}
	return found, nil
}

// object mutates the pod in one object, in place.
func (o Offline) object(ctx context.Context, d document, object *yaml.Node, all []document) ([]Found, error) {
	kind, line := value(object, "kind"), object.Line
	path, ok := templates[kind]
	if !ok {
		return nil, nil
	}
	meta := child(object, "metadata")
	namespace, name := value(meta, "namespace"), value(meta, "name")
	f := Found{Object: strings.TrimSuffix(kind+" "+namespace+"/", "/") + "/" + name, Line: d.line + line - 1}
	if namespace == "" {
		f.Object = kind + " " + name
	}
	node := object
	for _, key := range path {
		if node = child(node, key); node == nil {
			return nil, nil // not one that the API server would take
		}
	}
	if merges(node, map[*yaml.Node]bool{}) {
		return nil, fmt.Errorf("line %d: %s uses YAML's merge key <<, which cannot be changed without changing what it refers to; write the keys out", f.Line, f.Object)
	}
	template, err := o.read(node, f)
	if err != nil {
		return nil, err
	}
	before := template.DeepCopy()
	set := o.Settings
	set.Namespace = namespace
	labels, annotations := namespaceIn(all, namespace)
	if annotations != nil {
		set.NamespaceAnnotations = annotations
	}
	set.NamespaceLabels = labels
	if level := labels["pod-security.kubernetes.io/enforce"]; level != "" {
		set.PodSecurity = level
	}
	if _, labelled := template.Labels[InjectLabel]; !labelled && o.Mode != "" {
		if template.Labels == nil {
			template.Labels = map[string]string{}
		}
		template.Labels[InjectLabel] = o.Mode
	}
	pod, report, err := Mutate(ctx, &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}, set)
	f.Report, f.Err = report, err
	if err != nil || report.Left != "" {
		return []Found{f}, nil
	}
	ops, err := Patch(before, corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec})
	if err != nil {
		return nil, err
	}
	if node, err = podOf(d.root, object, path); err != nil {
		return nil, err
	}
	for _, op := range ops {
		if err := apply(d.root, node, op); err != nil {
			return nil, fmt.Errorf("line %d: cannot change %s at %s: %w", f.Line, f.Object, op.Path, err)
		}
	}
	return []Found{f}, nil
}

func (o Offline) read(node *yaml.Node, f Found) (*corev1.PodTemplateSpec, error) {
	text, err := expanded(node)
	if err != nil {
		return nil, fmt.Errorf("line %d: cannot read %s: %w", f.Line, f.Object, err)
	}
	var template corev1.PodTemplateSpec
	if err := kyaml.Unmarshal(text, &template); err != nil {
		return nil, fmt.Errorf("line %d: cannot read the pod of %s: %w", f.Line, f.Object, err)
	}
	return &template, nil
}

// known finds ConfigMaps in the same file before it asks elsewhere.
type known struct {
	docs []document
	next ConfigMaps
}

// ConfigMap is ConfigMaps'.
func (k known) ConfigMap(ctx context.Context, namespace, name string) (map[string]string, error) {
	for _, d := range k.docs {
		if object := namedIn(d, "ConfigMap", namespace, name); object != nil {
			var cm struct {
				Data map[string]string `yaml:"data"`
			}
			if err := object.Decode(&cm); err != nil {
				return nil, err
			}
			return cm.Data, nil
		}
	}
	if k.next != nil {
		return k.next.ConfigMap(ctx, namespace, name)
	}
	return nil, errors.New("it is not in the file")
}

func namespaceIn(docs []document, name string) (labels, annotations map[string]string) {
	for _, d := range docs {
		if object := namedIn(d, "Namespace", "", name); object != nil {
			var ns struct {
				Metadata metav1.ObjectMeta `json:"metadata"`
			}
			text, err := expanded(object)
			if err == nil && kyaml.Unmarshal(text, &ns) == nil {
				return ns.Metadata.Labels, maps.Clone(ns.Metadata.Annotations)
			}
		}
	}
	return nil, nil
}

func namedIn(d document, kind, namespace, name string) *yaml.Node {
	for _, object := range d.objects() {
		meta := child(object, "metadata")
		if name != "" && value(object, "kind") == kind && value(meta, "name") == name && (kind == "Namespace" || value(meta, "namespace") == namespace) {
			return object
		}
	}
	return nil
}

// Explain writes for people what Inject did or would do.
func Explain(w io.Writer, found []Found) {
	for _, f := range found {
		switch {
		case f.Err != nil:
			fmt.Fprintf(w, "%s: refused: %v\n", f.Object, f.Err)
		case f.Report.Left != "":
			fmt.Fprintf(w, "%s: left alone: %s\n", f.Object, f.Report.LeftText)
		default:
			fmt.Fprintf(w, "%s: injected, %s\n", f.Object, f.Report.Mode)
			for _, text := range f.Report.Done {
				fmt.Fprintf(w, "  - %s\n", text)
			}
		}
		for _, text := range f.Report.Warnings {
			fmt.Fprintf(w, "  warning: %s\n", text)
		}
	}
	if len(found) == 0 {
		fmt.Fprintln(w, "there is no pod and nothing that makes pods")
	}
}
