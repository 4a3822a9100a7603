//go:build kube

package kube

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Desktops reach the code server and nothing else, and an airlock is reached from outside for files and reaches nothing: with the
// policies of charts/inpod and apps of charts/inpod-app. hack/kube/netpol enforces the policies, kube-router's controller; it is there
// for this test alone, which has the cluster for itself, since other tests are not about who may reach whom.
func TestPolicies(t *testing.T) {
	ns, far := newNamespace(t), newNamespace(t)
	p := &policed{t: t, ns: ns, dir: t.TempDir(), pids: map[string]string{}, ips: map[string]string{"api": "10.96.0.1", "node": "10.98.0.1", "outside": "10.99.0.2"}}
	p.outside()
	p.exchange()
	p.deploy(far)

	// Nobody enforces anything yet: all of it is open, so what is shut later was shut by a policy.
	p.expect("no policy", everywhere(true), everywhere(true))
	p.enforce()
	p.helm("policies", "../../charts/inpod", `
injector: {enabled: false}
networkPolicies:
  homepod: {enabled: true, from: [{podSelector: {matchLabels: {app: door}}}], codeServerPorts: [22, 8080]}
  airlock: {enabled: true}
`)
	p.expect("policies", reached(), injectorReaches())
	p.files()
	p.webhook()
	for _, name := range []string{"homepod", "named", "airlock"} { // the kubelet still reaches the port that the policy shuts for others
		if pod := p.ns.injected("app.kubernetes.io/name="+name, "wrap"); !pod.is("Ready") || pod.Status.ContainerStatuses[0].RestartCount > 0 {
			t.Errorf("%s is not ready, or was restarted", name)
		}
	}
	if _, err := ns.try("", "delete", "networkpolicy", "--all"); err != nil {
		t.Fatal(err)
	}
	p.expect("the policies are deleted", everywhere(true), injectorReaches())
}

// reached says who reaches what: "from to:port".
func reached() map[string]bool {
	want := everywhere(false)
	for _, open := range []string{
		"homepod code:22", "homepod code:8080", "homepod service:8080",
		"door homepod:7030", "door homepod:5900", "door homepod:2222", "door named:15080", "door named:7030", "door named:2222",
		"outside airlock:10022", "stranger airlock:10022", "door airlock:10022",
		"door code:8080", "stranger code:9999", "outside stranger:8080", "door stranger:8080", // that no policy is about
	} {
		if _, ok := want[open]; !ok {
			panic("BUG: nobody asks for " + open)
		}
		want[open] = true
	}
	return want
}

// everywhere is everything that is asked.
func everywhere(open bool) map[string]bool {
	all := map[string]bool{}
	for from, targets := range map[string]string{
		"homepod":  "code:22 code:8080 code:9999 service:8080 stranger:8080 far:8080 door:8080 airlock:10022 airlock:9880 api:443 node:6443 node:10260 outside:8080",
		"door":     "homepod:7030 homepod:5900 homepod:2222 homepod:9880 named:15080 named:7030 named:2222 named:9880 airlock:10022 airlock:9880 code:8080 stranger:8080",
		"stranger": "homepod:7030 homepod:5900 homepod:2222 homepod:9880 named:15080 airlock:10022 airlock:9880 code:9999",
		"far":      "homepod:7030 homepod:2222",
		"outside":  "homepod:7030 homepod:5900 homepod:2222 airlock:10022 airlock:9880 stranger:8080",
		"airlock":  "code:8080 stranger:8080 homepod:7030 homepod:2222 door:8080 api:443 node:6443 node:10260 outside:8080",
	} {
		for target := range strings.FieldsSeq(targets) {
			all[from+" "+target] = open
		}
	}
	return all
}

// injectorReaches is the same for the injector, whose policy came with its chart.
func injectorReaches() map[string]bool {
	return map[string]bool{
		"injector api:443": true, "injector node:6443": true, "injector node:10260": false, "injector stranger:8080": false, "injector code:22": false,
		"stranger injector:8443": true, "stranger injector:9881": true,
	}
}

// policed are pods with policies about them.
type policed struct {
	t    *testing.T
	ns   *namespace
	dir  string
	pids map[string]string // a process of each pod's network
	ips  map[string]string
}

// outside is a network that is none of the cluster's.
func (p *policed) outside() {
	p.t.Helper()
	cmd := exec.Command("unshare", "--net", "../../bin/kube/images/testprog", "upstream", ":8080")
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	pid := fmt.Sprint(cmd.Process.Pid)
	eventually(p.t, "there is a network outside", func() bool {
		name, err := os.Readlink("/proc/" + pid + "/exe")
		return err == nil && filepath.Base(name) == "testprog"
	})
	p.pids["outside"] = pid
	p.run("ip", "link", "add", "far-away", "type", "veth", "peer", "name", "eth0", "netns", pid)
	p.run("ip", "addr", "add", "10.99.0.1/24", "dev", "far-away")
	p.run("ip", "link", "set", "far-away", "up")
	for _, args := range []string{"addr add 10.99.0.2/24 dev eth0", "link set eth0 up", "route add default via 10.99.0.1"} {
		p.run("nsenter", append([]string{"-t", pid, "-n", "ip"}, strings.Fields(args)...)...)
	}
}

func (p *policed) run(name string, args ...string) string {
	p.t.Helper()
	out, err := run("", name, args...)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// exchange is a volume that airlock and desktop both have.
func (p *policed) exchange() {
	p.t.Helper()
	dir := filepath.Join(filepath.Dir(os.Getenv("KUBECONFIG")), "exchange-"+p.ns.name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Chown(dir, 1000, 1000); err != nil { // whom the image runs as
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		kubectl(p.t, "delete", "pv", "exchange-"+p.ns.name, "--wait=false")
		_ = os.RemoveAll(dir)
	})
	p.ns.apply(fmt.Sprintf(`
apiVersion: v1
kind: PersistentVolume
metadata: {name: exchange-%[1]s}
spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteMany], storageClassName: "", hostPath: {path: %[2]q}, claimRef: {namespace: %[1]s, name: exchange}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: exchange}
spec: {accessModes: [ReadWriteMany], storageClassName: "", volumeName: exchange-%[1]s, resources: {requests: {storage: 1Gi}}}
`, p.ns.name, dir))
}

// helm installs a release in the test's namespace.
func (p *policed) helm(release, chart, values string) {
	p.t.Helper()
	file := filepath.Join(p.dir, release+".yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.run("helm", "install", release, chart, "--namespace", p.ns.name, "--values", file)
}

// deploy starts a desktop, an airlock, and who else there is.
func (p *policed) deploy(far *namespace) {
	p.t.Helper()
	p.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(p.dir, "key"))
	p.ns.kubectl("create", "secret", "generic", "keys", "--from-file=authorized_keys="+filepath.Join(p.dir, "key.pub"))
	const desktop = `
image: inpod-test/digits:plain
command: [bash, -c, "python3 -m http.server 5900 & exec python3 -m http.server 7030"]
port: 7030
settings: {health: /app.py, ssh-forward: "off", drain-delay: 0s, drain-deadline: 1s}
labels: {app: homepod}
ssh: {secret: keys}
volumes: [{name: exchange, path: /opt/public/airlock, claim: exchange, readOnly: true}]
`
	p.helm("homepod", "../../charts/inpod-app", desktop)
	// As in namespaces whose Pod Security allows no redirect: the name of the port moves, and the policy with it.
	p.helm("named", "../../charts/inpod-app", strings.Replace(desktop, "settings: {", "settings: {intercept: named, ", 1))
	p.helm("airlock", "../../charts/inpod-app", `
image: inpod-test/digits:plain
command: [sleep, infinity]
port: 0
profile: airlock
settings:
  drain-deadline: 1s
  ssh-users: |
    - {name: airlock, authorized_keys: [/opt/inpod-keys/authorized_keys], root: /opt/public/airlock, access: read-write}
    - {name: reader, authorized_keys: [/opt/inpod-keys/authorized_keys], root: /opt/public/airlock, access: read-only, paths: [{path: /in, access: write-only}]}
ssh: {secret: keys}
labels: {app: airlock}
volumes: [{name: exchange, path: /opt/public/airlock, claim: exchange}]
`)
	peer := func(ns *namespace, name, app string, ports ...string) {
		text := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, labels: {app: %s}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n", name, app)
		for _, port := range ports {
			text += fmt.Sprintf("  - {name: p%[1]s, image: \"inpod-test/testprog:1\", args: [upstream, \":%[1]s\"]}\n", port)
		}
		ns.apply(text)
	}
	peer(p.ns, "code", "code-server", "22", "8080", "9999")
	peer(p.ns, "door", "door", "8080")
	peer(p.ns, "stranger", "stranger", "8080")
	peer(far, "far", "code-server", "8080") // elsewhere, the same label says nothing
	p.ns.apply("apiVersion: v1\nkind: Service\nmetadata: {name: code}\nspec: {selector: {app: code-server}, ports: [{port: 8080}]}\n")
	p.ips["service"] = p.ns.clusterIP("code")
	p.ns.rollout("deployment/homepod")
	p.ns.rollout("deployment/named")
	p.ns.rollout("deployment/airlock")
	for _, name := range []string{"code", "door", "stranger"} {
		p.ns.wait("pod/"+name, "condition=Ready")
		p.knows(name, p.ns, "pod/"+name)
	}
	far.wait("pod/far", "condition=Ready")
	p.knows("far", far, "pod/far")
	for _, name := range []string{"homepod", "named", "airlock"} {
		p.knows(name, p.ns, "pod/"+p.ns.injected("app.kubernetes.io/name="+name, "wrap").Metadata.Name)
	}
	p.knows("injector", &namespace{p.t, "inpod"}, "pod/"+replicas(p.t)[0].name)
}

// knows finds a pod's address, and a process of it.
func (p *policed) knows(who string, ns *namespace, pod string) {
	p.t.Helper()
	p.ips[who] = ns.field(pod, ".status.podIP")
	id := strings.TrimPrefix(ns.field(pod, ".status.containerStatuses[0].containerID"), "containerd://")
	socket := filepath.Join(filepath.Dir(os.Getenv("KUBECONFIG")), ns.field(pod, ".spec.nodeName"), "containerd.sock")
	for line := range strings.Lines(p.run("ctr", "-a", socket, "-n", "k8s.io", "tasks", "ls")) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == id {
			p.pids[who] = words[1]
			return
		}
	}
	p.t.Fatalf("%s has no task in %s", pod, socket)
}

// enforce runs what enforces policies, until the test has ended; it takes its rules along.
func (p *policed) enforce() {
	p.t.Helper()
	cmd := exec.Command("netpol")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || p.t.Failed() {
			p.t.Logf("netpol: %v\n%s", err, said.String())
		}
		if rules, err := run("", "iptables", "-S"); err != nil || strings.Contains(rules, "KUBE-POD-FW") {
			p.t.Errorf("netpol left its rules: %v", err)
		}
	})
}

// dial tries addresses from within a network, all at once. The kernel says of some only that they are shut: it limits how many
// ICMP messages it sends.
const dial = `for to; do
	(if timeout 2 bash -c "exec 3<>/dev/tcp/${to/:/\/}" 2>/dev/null; then echo "$to open"; else echo "$to shut"; fi) &
done; wait`

// expect waits until all that is asked is as it should be. A policy is in force a moment after it is written.
func (p *policed) expect(when string, want ...map[string]bool) {
	p.t.Helper()
	all := map[string]bool{}
	for _, w := range want {
		maps.Copy(all, w)
	}
	targets := map[string][]string{}
	for _, pair := range slices.Sorted(maps.Keys(all)) {
		from, to, _ := strings.Cut(pair, " ")
		targets[from] = append(targets[from], to)
	}
	var wrong []string
	defer func() {
		if len(wrong) > 0 {
			p.t.Logf("%s:\n%s", when, strings.Join(wrong, "\n"))
		}
	}()
	eventually(p.t, when, func() bool {
		var each sync.WaitGroup
		var mu sync.Mutex
		wrong = nil
		for from, list := range targets {
			each.Go(func() {
				faults := p.ask(from, list, all)
				mu.Lock()
				defer mu.Unlock()
				wrong = append(wrong, faults...)
			})
		}
		each.Wait()
		return len(wrong) == 0
	})
}

// ask tries addresses from one network, and returns what is not as it should be.
func (p *policed) ask(from string, list []string, want map[string]bool) (wrong []string) {
	args := []string{"-t", p.pids[from], "-n", "bash", "-c", dial, "bash"}
	for _, to := range list {
		host, port, _ := strings.Cut(to, ":")
		args = append(args, p.ips[host]+":"+port)
	}
	out, err := run("", "nsenter", args...)
	if err != nil {
		return []string{err.Error()}
	}
	for i, to := range list {
		if open := strings.Contains(out, args[len(args)-len(list)+i]+" open\n"); open != want[from+" "+to] {
			wrong = append(wrong, fmt.Sprintf("%s %s is open: %v", from, to, open))
		}
	}
	return wrong
}

// client runs a program of OpenSSH from outside, or for others than the airlock from a node.
func (p *policed) client(stdin, program, who string, args ...string) (string, error) {
	all := []string{program, "-F", "none", "-i", filepath.Join(p.dir, "key"), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"}
	if who == "homepod" {
		all = append(all, "-o", "Port=2222")
		return run(stdin, all[0], append(all[1:], args...)...)
	}
	all = append(all, "-o", "Port=10022")
	return run(stdin, "nsenter", append(append([]string{"-t", p.pids["outside"], "-n"}, all...), args...)...)
}

// files are written outside and read inside, and not the other way; and SSH leads nowhere else.
func (p *policed) files() {
	t := p.t
	sent := filepath.Join(p.dir, "sent")
	if err := os.WriteFile(sent, []byte("a file from outside\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	airlock, reader := "airlock@"+p.ips["airlock"], "reader@"+p.ips["airlock"]
	if _, err := p.client("put "+sent+" /there\nmkdir /in\n", "sftp", "airlock", "-b", "-", airlock); err != nil {
		t.Fatal(err)
	}
	desktop := "pod/" + p.ns.injected("app.kubernetes.io/name=homepod", "wrap").Metadata.Name
	if got := p.ns.kubectl("exec", desktop, "-c", "app", "--", "cat", "/opt/public/airlock/there"); got != "a file from outside\n" {
		t.Errorf("the desktop reads %q", got)
	}
	if _, err := p.ns.try("", "exec", desktop, "-c", "app", "--", "touch", "/opt/public/airlock/back"); err == nil || !strings.Contains(err.Error(), "Read-only file system") {
		t.Errorf("the desktop writes: %v", err)
	}
	for _, c := range []struct {
		who, do string
		works   bool
	}{
		{airlock, "get /there " + filepath.Join(p.dir, "back"), true},
		{airlock, "get /etc/passwd " + filepath.Join(p.dir, "passwd"), false}, // its / is the volume
		{airlock, "get /../../../etc/passwd " + filepath.Join(p.dir, "passwd"), false},
		{reader, "get /there " + filepath.Join(p.dir, "back"), true},
		{reader, "put " + sent + " /mine", false},
		{reader, "rm /there", false},
		{reader, "put " + sent + " /in/mine", true},
		{reader, "get /in/mine " + filepath.Join(p.dir, "back"), false},
	} {
		if _, err := p.client(c.do+"\n", "sftp", "airlock", "-b", "-", c.who); (err == nil) != c.works {
			t.Errorf("%s: %s: %v", c.who, c.do, err)
		}
	}
	for _, c := range []struct {
		name, who string
		args      []string
		works     bool
	}{
		{"a command in the airlock", "airlock", []string{airlock, "id"}, false},
		{"from the airlock to the code server", "airlock", []string{"-W", p.ips["code"] + ":8080", airlock}, false},
		{"a command on the desktop", "homepod", []string{"digits@" + p.ips["homepod"], "true"}, true},
		{"from the desktop to the code server", "homepod", []string{"-W", p.ips["code"] + ":8080", "digits@" + p.ips["homepod"]}, false},
	} {
		if _, err := p.client("", "ssh", c.who, c.args...); (err == nil) != c.works {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// webhook injects pods while the injector's own policy is enforced, and each replica is asked.
func (p *policed) webhook() {
	for i := range 4 {
		p.ns.apply(strings.NewReplacer("NAMESPACE", p.ns.name, "NAME", fmt.Sprint("web-", i)).Replace(web))
		if got := p.ns.field(fmt.Sprint("pod/web-", i), ".metadata.labels.inpod\\.dev/injected"); got != "wrap" {
			p.t.Errorf("web-%d is injected: %q", i, got)
		}
	}
}
