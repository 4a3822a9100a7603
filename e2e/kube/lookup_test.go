//go:build kube

package kube

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/crypto/bcrypt"
)

// registry is Debian's docker-registry at the nodes' address, where both the kubelets and the injector reach it. It lets alice in.
type registry struct {
	t    *testing.T
	dir  string
	stop func()
}

const (
	registryHost     = "10.98.0.1:5000"
	registryPassword = "open sesame"
)

func newRegistry(t *testing.T) *registry {
	t.Helper()
	r := &registry{t: t, dir: t.TempDir()}
	hash, err := bcrypt.GenerateFromPassword([]byte(registryPassword), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %[1]s/data}}\n"+
		"http: {addr: '%[2]s'}\nauth: {htpasswd: {realm: e2e, path: %[1]s/htpasswd}}\n", r.dir, registryHost)
	for file, text := range map[string]string{"htpasswd": "alice:" + string(hash), "config.yml": config} {
		if err := os.WriteFile(filepath.Join(r.dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *registry) start() {
	r.t.Helper()
	cmd := exec.Command("docker-registry", "serve", filepath.Join(r.dir, "config.yml"))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	r.stop = func() {
		_ = cmd.Process.Kill()
		<-ended
	}
	eventually(r.t, "the registry listens", func() bool {
		select {
		case <-ended:
			r.t.Fatalf("docker-registry: %s", said.String())
		default:
		}
		conn, err := net.Dial("tcp", registryHost)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// push gives the registry an image and returns its digest.
func (r *registry) push(repository string, image v1.Image) string {
	r.t.Helper()
	ref, err := name.ParseReference(registryHost+"/"+repository, name.Insecure)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := remote.Write(ref, image, remote.WithAuth(&authn.Basic{Username: "alice", Password: registryPassword})); err != nil {
		r.t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		r.t.Fatal(err)
	}
	return digest.String()
}

// server is an image that starts a server by itself.
func server(t *testing.T) v1.Image {
	t.Helper()
	image, err := tarball.ImageFromPath("../../bin/kube/images/inpod-test-testprog-1.tar", nil)
	if err != nil {
		t.Fatal(err)
	}
	image, err = mutate.Config(image, v1.Config{Entrypoint: []string{"/testprog", "upstream"}, Cmd: []string{":8000"}, User: "1000"})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// pullSecret is a Secret as kubectl create secret docker-registry makes it.
func pullSecret(name, password string) string {
	auth := base64.StdEncoding.EncodeToString([]byte("alice:" + password))
	return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s}\ntype: kubernetes.io/dockerconfigjson\nstringData:\n"+
		"  .dockerconfigjson: '{\"auths\": {%q: {\"auth\": %q}}}'\n", name, registryHost, auth)
}

// commandless is a pod that leaves to its image what to start.
func commandless(name, image, spec string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {inpod.dev/inject: wrap}}
spec:
  %s
  containers:
  - {name: web, image: "%s/%s", ports: [{containerPort: 8000}]}
`, name, spec, registryHost, image)
}

const withKey, never = "imagePullSecrets: [{name: key}]", "schedulingGates: [{name: e2e.inpod.dev/never}]"

// Where a pod does not say what to start, its image does.
func TestLookup(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	digest := r.push("team/web:1", server(t))
	r.push("team/other:1", server(t))
	r.push("team/data:1", empty.Image)
	ns := newNamespace(t)
	soon(ns)
	ns.apply(pullSecret("key", registryPassword))
	ns.apply(pullSecret("old", "close sesame"))

	for pod, manifest := range map[string]string{
		"tag":    commandless("tag", "team/web:1", withKey),
		"digest": commandless("digest", "team/web@"+digest, withKey),
		// With args, which stand for what the image has as Cmd.
		"args": strings.Replace(commandless("args", "team/web:1", withKey), "ports: [{containerPort: 8000}]", `args: [":8001"], ports: [{containerPort: 8001}]`, 1),
		// With the key of the service account.
		"account": "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: puller}\nimagePullSecrets: [{name: key}]\n---" +
			commandless("account", "team/web:1", "serviceAccountName: puller"),
	} {
		ns.apply(manifest)
		if got := ns.field("pod/"+pod, ".metadata.annotations.inpod\\.dev/status"); !strings.Contains(got, `"lookup":"`+digest+`"`) {
			t.Errorf("%s: inpod.dev/status is %s", pod, got)
		}
	}
	for pod, port := range map[string]string{"tag": "8000", "digest": "8000", "args": "8001", "account": "8000"} {
		ns.wait("pod/"+pod, "condition=Ready")
		p := ns.pod(pod)
		// The words of an image are not the kubelet's to expand, and args stay the pod's.
		got := ns.field("pod/"+pod, ".spec.containers[0].command") + ns.field("pod/"+pod, ".spec.containers[0].args")
		if want := `"--","/testprog","upstream"][":` + port + `"]`; !strings.HasSuffix(got, want) {
			t.Errorf("%s: it starts %s, want …%s", pod, got, want)
		}
		if code, body := get("http://" + net.JoinHostPort(p.Status.PodIP, port) + "/health"); code != http.StatusOK {
			t.Errorf("%s: %d %s", pod, code, body)
		}
		if got := requests(t, p); got < 1 {
			t.Errorf("%s: %v requests passed inpod", pod, got)
		}
	}
	t.Run("refused", func(t *testing.T) { refusedLookups(t, ns.of(t)) })
	t.Run("down", func(t *testing.T) { r.down(t, ns.of(t)) })
}

const dockerInspect = `; write command: and args: in the container, as "docker inspect -f '{{json .Config.Entrypoint}} {{json .Config.Cmd}}' IMAGE" shows them`

func refusedLookups(t *testing.T, ns *namespace) {
	cannot := func(image, why string) string {
		return fmt.Sprintf("container %q has no command, and what its image %q starts cannot be looked up: %s", "web", registryHost+"/"+image, why) + dockerInspect
	}
	for name, c := range map[string]struct{ image, spec, says string }{
		"wrong-key": {"team/web:1", "imagePullSecrets: [{name: old}]", cannot("team/web:1", "the registry 10.98.0.1:5000 refuses the pull secrets of the pod and of its service account")},
		"no-key":    {"team/web:1", "hostname: web", cannot("team/web:1", "the registry 10.98.0.1:5000 refuses the pull secrets of the pod and of its service account")},
		"no-secret": {"team/web:1", "imagePullSecrets: [{name: none}]", cannot("team/web:1", "the registry 10.98.0.1:5000 refuses the pull secrets of the pod and of its service account")},
		"no-image":  {"team/web:2", withKey, cannot("team/web:2", "the registry 10.98.0.1:5000 does not have it")},
		"no-start":  {"team/data:1", withKey, `container "web" has no command and its image "10.98.0.1:5000/team/data:1" starts nothing by itself; write command: in the container`},
	} {
		manifest := commandless(name, c.image, c.spec+"\n  "+never)
		if got := ns.refuse(manifest); !strings.Contains(got, "denied the request: inpod: "+c.says) {
			t.Errorf("%s: got  %s\nwant %s", name, got, c.says)
		}
		// What it says to write.
		ns.apply(strings.Replace(manifest, "ports: [", `command: [/testprog, upstream], args: [":8000"], ports: [`, 1))
	}
	// Or the key is mended; what was read of it is believed for five seconds.
	ns.apply(pullSecret("old", registryPassword))
	eventually(t, "the mended key is used", func() bool {
		_, err := ns.try(commandless("mended", "team/web:1", "imagePullSecrets: [{name: old}]\n  "+never), "apply", "-f", "-")
		return err == nil
	})
}

// down shows what is known without the registry: what each replica has asked less than a minute ago.
func (r *registry) down(t *testing.T, ns *namespace) {
	manifest := commandless("known", "team/web:1", withKey)
	admit := func(ip string) string { return review(t, ip, ns.name, manifest) }
	began := time.Now()
	for _, replica := range replicas(t) {
		if got := admit(replica.ip); got != "allowed" {
			t.Fatalf("%s: %s", replica.name, got)
		}
	}
	r.stop()
	for _, replica := range replicas(t) {
		if got := admit(replica.ip); got != "allowed" && time.Since(began) < 50*time.Second {
			t.Errorf("%s: without the registry: %s", replica.name, got)
		}
	}
	const says = "starts cannot be looked up: the registry 10.98.0.1:5000: "
	got := ns.refuse(commandless("unknown", "team/other:1", withKey))
	if !strings.Contains(got, says) || !strings.Contains(got, "connection refused") || !strings.Contains(got, dockerInspect) {
		t.Errorf("got  %s\nwant %s", got, says)
	}
	r.start()
	// What failed is not asked again for five seconds.
	eventually(t, "it is found again without hands", func() bool {
		_, err := ns.try(commandless("unknown", "team/other:1", withKey+"\n  "+never), "apply", "-f", "-")
		return err == nil
	})
}

// review asks one replica about a pod, as the API server would.
func review(t *testing.T, ip, namespace, manifest string) string {
	t.Helper()
	pod, err := run(manifest, "kubectl", "create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-")
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "1", "operation": "CREATE", "dryRun": true,
		"namespace": %q, "resource": {"version": "v1", "resource": "pods"}, "object": %s}}`, namespace, pod)
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // nothing is proven by who answers here
	}}
	resp, err := client.Post("https://"+net.JoinHostPort(ip, "8443")+"/mutate", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Response struct {
			Allowed bool
			Patch   []byte
			Status  struct{ Message string }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	if answer.Response.Allowed && len(answer.Response.Patch) > 0 {
		return "allowed"
	}
	return "refused: " + answer.Response.Status.Message
}
