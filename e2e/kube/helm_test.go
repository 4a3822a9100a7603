//go:build kube

package kube

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The chart as it was before this version, packaged by helm.
const previous = "testdata/inpod-0.1.0.tgz"

// TestHelm takes the chart away, installs its previous version, upgrades that and goes back, while pods with the label are created
// all the time.
func TestHelm(t *testing.T) {
	h := newHook(t)
	t.Cleanup(func() {
		if !t.Failed() {
			return // the last stage has done it
		}
		if err := install("../../charts/inpod"); err != nil {
			t.Error(err)
		}
	})
	// helm removes the Service first and the webhook configuration last; pods that come in between are refused.
	h.stageTo(t, "Uninstall", unchanged, uninstalled, refused)
	if t.Failed() {
		return
	}
	values := []string{"--set", "injector.defaults.concurrency=7", "--set", "injector.logLevel=debug"}
	if err := install(previous, values...); err != nil {
		t.Fatal(err)
	}
	h.stage(t, "Previous", func(ns *namespace) {
		ns.kubectl("rollout", "restart", "deployment/labelled")
		ns.rollout("deployment/labelled")
		hasVersion(ns.t, strings.TrimSuffix(filepath.Base(previous), ".tgz"))
		ns.eachPod(true)
	})
	h.stage(t, "Upgrade", func(ns *namespace) {
		before := ns.eachPod(true)
		replaced(ns.t, func() {
			// The annotation is only there so that both replicas are replaced.
			helm(ns.t, "upgrade", "inpod", "../../charts/inpod", "--reset-then-reuse-values", "--set", "injector.podAnnotations.upgraded=yes")
		})
		hasVersion(ns.t, current(ns.t))
		hasValues(ns)
		if after := ns.eachPod(true); !slices.Equal(after, before) {
			ns.t.Errorf("the pods were %v and are %v", before, after)
		}
	})
	h.stage(t, "Rollback", func(ns *namespace) {
		before := ns.eachPod(true)
		replaced(ns.t, func() { helm(ns.t, "rollback", "inpod") })
		hasVersion(ns.t, strings.TrimSuffix(filepath.Base(previous), ".tgz"))
		hasValues(ns)
		if after := ns.eachPod(true); !slices.Equal(after, before) {
			ns.t.Errorf("the pods were %v and are %v", before, after)
		}
	})
	h.stage(t, "Again", func(ns *namespace) { // other values, and no hand in between
		if err := install("../../charts/inpod"); err != nil {
			ns.t.Fatal(err)
		}
		hasVersion(ns.t, current(ns.t))
	})
}

// current is the chart's version, as it is in labels.
func current(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../charts/inpod/Chart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^version: (\S+)$`).FindSubmatch(text)
	if m == nil {
		t.Fatal("Chart.yaml has no version")
	}
	return "inpod-" + string(m[1])
}

// uninstalled takes the chart away.
func uninstalled(ns *namespace) {
	t := ns.t
	before := ns.eachPod(true)
	helm(t, "uninstall", "inpod")
	var left []string
	defer func() {
		if len(left) > 0 {
			t.Logf("left behind: %s", strings.Join(left, ", "))
		}
	}()
	eventually(t, "nothing is left of the chart", func() bool {
		left = leftBehind(t)
		return len(left) == 0
	})
	if after := ns.eachPod(true); !slices.Equal(after, before) {
		t.Errorf("the pods were %v and are %v", before, after)
	}
	ns.kubectl("rollout", "restart", "deployment/labelled")
	ns.rollout("deployment/labelled")
	ns.eachPod(false)
}

// leftBehind are the objects of all kinds that are in the chart's namespace, or have its release's label or name.
func leftBehind(t *testing.T) (left []string) {
	t.Helper()
	kinds := slices.DeleteFunc(strings.Fields(kubectl(t, "api-resources", "--verbs", "list", "-o", "name")), func(kind string) bool {
		return strings.HasPrefix(kind, "events") || kind == "componentstatuses" // what happened stays for an hour; the other is no object
	})
	out := kubectl(t, "get", strings.Join(kinds, ","), "--all-namespaces", "--ignore-not-found", "-o",
		`jsonpath={range .items[*]}{.kind},{.metadata.namespace},{.metadata.name},{.metadata.labels.app\.kubernetes\.io/instance}{"\n"}{end}`)
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), ",")
		kind, namespace, name, release := f[0], f[1], f[2], f[3]
		switch {
		case kind == "Namespace" && name == "inpod", namespace == "inpod" && (name == "kube-root-ca.crt" || kind == "ServiceAccount" && name == "default"):
			// The namespace is the user's; these two are each namespace's.
		case namespace == "inpod", release == "inpod", namespace == "" && strings.Contains(name, "inpod"):
			left = append(left, kind+"/"+name)
		}
	}
	return left
}

// eachPod returns the UIDs of the Deployment's pods, which are all ready and all injected, or none of them.
func (ns *namespace) eachPod(inside bool) (uids []string) {
	ns.t.Helper()
	ns.wait("deployment/labelled", "condition=Available")
	const path = `jsonpath={range .items[*]}{.metadata.deletionTimestamp},{.metadata.uid},{.metadata.annotations.inpod\.dev/status}{"\n"}{end}`
	for line := range strings.Lines(ns.kubectl("get", "pods", "-l", "app=labelled", "-o", path)) {
		f := strings.SplitN(strings.TrimSpace(line), ",", 3)
		if f[0] != "" {
			continue // about to go
		}
		if got := f[2] != ""; got != inside {
			ns.t.Errorf("pod %s is injected: %v, want %v", f[1], got, inside)
		}
		uids = append(uids, f[1])
	}
	if len(uids) == 0 {
		ns.t.Error("the Deployment has no pods")
	}
	slices.Sort(uids)
	return uids
}

// helm runs helm on the release inpod, or another one, and waits.
func helm(t *testing.T, args ...string) {
	t.Helper()
	if out, err := run("", "helm", append(args, "--namespace", "inpod", "--wait", "--timeout", "3m")...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// hasVersion checks that the webhook configuration is that of a version of the chart.
func hasVersion(t *testing.T, want string) {
	t.Helper()
	if got := kubectl(t, "get", hookConfig, "-o", `jsonpath={.metadata.labels.helm\.sh/chart}`); got != want {
		t.Errorf("the webhook is that of the chart %q, want %q", got, want)
	}
}

// hasValues checks that what somebody set when he installed the previous version still counts.
func hasValues(ns *namespace) {
	t := ns.t
	t.Helper()
	out, err := run("", "helm", "get", "values", "inpod", "--namespace", "inpod", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var values struct {
		Injector struct {
			Defaults map[string]any
			LogLevel string
		}
	}
	if err := json.Unmarshal([]byte(out), &values); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(values.Injector.Defaults["concurrency"]) != "7" || values.Injector.LogLevel != "debug" {
		t.Errorf("the values are %s", out)
	}
	pod, err := ns.try(labelledPod, "create", "--dry-run=server", "-o", "json", "-f", "-")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`concurrency[\\": ]+7\b`).MatchString(pod) {
		t.Errorf("the installation's defaults are not in a pod: %s", pod)
	}
}

// TestApp deploys the digits server with the chart inpod-app and ten lines of values: an image that has inpod, and one that has not.
func TestApp(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	for _, name := range []string{"digits", "plain"} {
		file := "testdata/" + name + ".values.yaml"
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "\n"); n > 10 {
			t.Errorf("%s has %d lines", file, n)
		}
		if out, err := run("", "helm", "install", name, "../../charts/inpod-app", "--namespace", ns.name, "-f", file); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, name := range []string{"digits", "plain"} {
		ns.rollout("deployment/" + name)
		if got := readSeven(t, ns.clusterIP(name)); !strings.Contains(got, "7") {
			t.Errorf("%s reads %q in the picture of a seven", name, got)
		}
	}
	if status := ns.kubectl("get", "pods", "-l", "app.kubernetes.io/instance=plain", "-o", `jsonpath={.items[*].metadata.annotations.inpod\.dev/status}`); status == "" {
		t.Error("the image without inpod was not injected")
	}
}

// TestObjects gives everything that the charts' golden files hold to the API server, as far as it knows the kinds.
func TestObjects(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	files, err := filepath.Glob("../../charts/testdata/*.golden.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	groups := strings.Fields(kubectl(t, "api-versions"))
	kind := regexp.MustCompile(`(?m)^apiVersion: (\S+)$`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var known []string
		for object := range strings.SplitSeq(strings.ReplaceAll(string(text), "inpod-system", ns.name), "\n---\n") {
			if m := kind.FindStringSubmatch(object); m != nil && slices.Contains(groups, m[1]) {
				known = append(known, object)
			}
		}
		out, err := ns.try(strings.Join(known, "\n---\n"), "apply", "--dry-run=server", "--validate=strict", "-f", "-")
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
		t.Logf("%s: %d objects", filepath.Base(file), strings.Count(out, "\n"))
	}
}
