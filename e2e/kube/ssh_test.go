//go:build kube

package kube

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// SSH by key, as the guide says it: the key in a Secret, the host key in another, kubectl port-forward, the real client.
func TestSSH(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	soon(ns)
	dir := t.TempDir()
	for _, name := range []string{"alice", "host", "mallory"} {
		if _, err := run("", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	ns.kubectl("create", "secret", "generic", "alice-keys", "--from-file=authorized_keys="+filepath.Join(dir, "alice.pub"))
	ns.kubectl("create", "secret", "generic", "alice-host", "--from-file=ssh_host_ed25519_key="+filepath.Join(dir, "host"))
	host, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	hosts := filepath.Join(dir, "known_hosts")
	if err := os.WriteFile(hosts, append([]byte("notebook "), host...), 0o600); err != nil {
		t.Fatal(err)
	}

	pods := map[string]string{"root": "{runAsUser: 0}", "digits": "{runAsNonRoot: true, runAsUser: 1000}"}
	for user, security := range pods {
		ns.apply(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata:
  name: %s
  labels: {inpod.dev/inject: wrap}
  annotations:
    inpod.dev/profile: notebook
    inpod.dev/ssh-keys: alice-keys
    inpod.dev/ssh-host-keys: alice-host
spec:
  securityContext: %s
  containers: [{name: main, image: inpod-test/digits:plain, command: [sleep, infinity], env: [{name: OF_THE_POD, value: "so it is"}]}]
`, user, security))
	}
	for user := range pods {
		t.Run(user, func(t *testing.T) {
			ns := ns.of(t)
			ns.wait("pod/"+user, "condition=Ready")
			port := ns.forward("pod/"+user, 2222)
			as := func(key string) []string {
				return []string{
					"-F", "none", "-i", filepath.Join(dir, key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "HostKeyAlias=notebook",
					"-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=" + hosts, "-o", "Port=" + port,
				}
			}
			out, err := run("", "ssh", append(as("alice"), user+"@127.0.0.1", "id -un; echo $OF_THE_POD; hostname")...)
			if want := user + "\nso it is\n" + user + "\n"; err != nil || out != want {
				t.Errorf("ssh: got %q and %v, want %q", out, err, want)
			}
			if out, err := run("", "ssh", append(as("mallory"), user+"@127.0.0.1", "id")...); err == nil {
				t.Errorf("another key: %q", out)
			}
			sent, back := filepath.Join(dir, "sent"), filepath.Join(dir, "back-"+user)
			if err := os.WriteFile(sent, []byte(strings.Repeat("a file\n", 100_000)), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := run("put "+sent+" /tmp/there\nget /tmp/there "+back+"\n", "sftp", append(as("alice"), "-b", "-", user+"@127.0.0.1")...); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(back); err != nil || string(got) != strings.Repeat("a file\n", 100_000) {
				t.Errorf("sftp: %d bytes came back, %v", len(got), err)
			}
			if got := ns.kubectl("exec", user, "-c", "main", "--", "stat", "-c", "%U %s", "/tmp/there"); got != user+" 700000\n" {
				t.Errorf("the file in the pod: %q", got)
			}
		})
	}

	said := ns.refuse(`
apiVersion: v1
kind: Pod
metadata: {name: beside, labels: {inpod.dev/inject: sidecar}, annotations: {inpod.dev/ssh-keys: alice-keys, inpod.dev/port: "8000"}}
spec: {containers: [{name: main, image: inpod-test/digits:plain, command: [sleep, infinity]}]}
`)
	if !strings.Contains(said, "write the label inpod.dev/inject: wrap, or inpod.dev/ssh: off") {
		t.Errorf("a sidecar with SSH: %s", said)
	}
}
