package models

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"
)

// registryServer is Debian's docker-registry, which lets user:password in.
type registryServer struct {
	t      *testing.T
	addr   string
	pushed []byte // the last manifest
}

func newRegistry(t *testing.T) *registryServer {
	t.Helper()
	dir, addr := t.TempDir(), port(t)
	hash, err := bcrypt.GenerateFromPassword([]byte("password"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/htpasswd", append([]byte("user:"), hash...))
	conf := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %[1]s/data}}\nhttp: {addr: '%[2]s'}\nauth: {htpasswd: {realm: models, path: %[1]s/htpasswd}}\n", dir, addr)
	serve(t, addr, "docker-registry", "serve", write(t, dir+"/conf.yml", []byte(conf)))
	return &registryServer{t: t, addr: addr}
}

func (r *registryServer) do(method, at, kind string, b []byte) *http.Response {
	r.t.Helper()
	if strings.HasPrefix(at, "/") {
		at = "http://" + r.addr + at
	}
	req, err := http.NewRequest(method, at, bytes.NewReader(b))
	if err != nil {
		r.t.Fatal(err)
	}
	req.SetBasicAuth("user", "password")
	req.Header.Set("Content-Type", kind)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); res.StatusCode/100 != 2 {
		r.t.Fatalf("%s %s: %s\n%s", method, at, res.Status, text)
	}
	return res
}

// layer uploads a blob and describes it.
func (r *registryServer) layer(repo, kind, title string, b []byte) descriptor {
	at := r.do("POST", "/v2/"+repo+"/blobs/uploads/", "", nil).Header.Get("Location")
	d := descriptor{MediaType: kind, Digest: "sha256:" + sum(b), Size: int64(len(b))}
	if title != "" {
		d.Annotations = map[string]string{titleKey: title}
	}
	r.do("PUT", at+"&digest="+d.Digest, "application/octet-stream", b)
	return d
}

// push uploads a manifest of layers and returns its digest.
func (r *registryServer) push(repo, tag string, layers ...descriptor) string {
	config := r.layer(repo, "application/vnd.oci.image.config.v1+json", "", []byte("{}"))
	return r.manifest(repo, tag, map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers,
	})
}

func (r *registryServer) manifest(repo, tag string, m map[string]any) string {
	b, err := json.Marshal(m)
	if err != nil {
		r.t.Fatal(err)
	}
	r.pushed = b
	r.do("PUT", "/v2/"+repo+"/manifests/"+tag, m["mediaType"].(string), b)
	return sum(b)
}

const (
	layerType = "application/vnd.oci.image.layer.v1.tar+gzip"
	fileType  = "application/vnd.example.weights"
)

func TestRegistry(t *testing.T) {
	t.Parallel()
	dir, r := t.TempDir(), newRegistry(t)
	login := base64.StdEncoding.EncodeToString([]byte("user:password"))
	write(t, dir+"/.docker/config.json", fmt.Appendf(nil, `{"auths": {"https://%s/v1/": {"auth": %q}}}`, r.addr, login))
	data := noise(1 << 20)

	// An artifact, as ORAS makes it: a file, one in a directory, a packed directory.
	packed := r.layer("nets/bert", layerType, "tokenizer", gz(t, tarOf(t, entry{name: "tokenizer/vocab.txt", text: "words"})))
	packed.Annotations[unpackKey] = "true"
	digest := r.push("nets/bert", "v1", r.layer("nets/bert", fileType, "weights.bin", data), r.layer("nets/bert", fileType, "conf/config.json", []byte("{}")), packed)
	m := "- {name: bert, url: 'oci://" + r.addr + "/nets/bert:v1', to: DIR/bert}"
	fetch(t, dir, m)
	want := map[string]string{"weights.bin": string(data), "conf/config.json": "{}", "tokenizer/vocab.txt": "words"}
	if diff := cmp.Diff(want, tree(t, dir+"/bert")); diff != "" {
		t.Errorf("an artifact (-want +got):\n%.500s", diff)
	}
	if log := fetch(t, dir, m); !strings.Contains(log, "has not changed") {
		t.Errorf("the second start:\n%s", log)
	}
	// By the digest of its manifest nobody is asked; a tag that moved is noticed.
	fetch(t, dir, "- {name: bert, url: 'oci://"+r.addr+"/nets/bert@sha256:"+digest+"', to: DIR/by}")
	fetch(t, dir, "- {name: bert, url: 'oci://nowhere.invalid/nets/bert:v1', sha256: "+digest+", to: DIR/by}")
	refused(t, dir, "- {name: bert, url: 'oci://"+r.addr+"/nets/bert:v1', sha256: "+sum(nil)+", to: DIR/x}", "the manifest of "+r.addr+"/nets/bert:v1 is sha256:"+digest+", want sha256:"+sum(nil))
	r.push("nets/bert", "v1", r.layer("nets/bert", fileType, "weights.bin", []byte("new")))
	fetch(t, dir, m)
	if diff := cmp.Diff(map[string]string{"weights.bin": "new"}, tree(t, dir+"/bert")); diff != "" {
		t.Errorf("a tag that moved (-want +got):\n%.500s", diff)
	}

	// A modelcar: an image with the model in /models, whose later layers change earlier ones; in an index.
	image := []descriptor{
		r.layer("car", layerType, "", gz(t, tarOf(t, entry{name: "etc/mtab", kind: tar.TypeSymlink, link: "../proc/mounts"}, entry{name: "models/old.bin", text: "old"}, entry{name: "models/d/x", text: "x"}))),
		r.layer("car", layerType, "", gz(t, tarOf(t, entry{name: "models/.wh.old.bin"}, entry{name: "models/d/.wh..wh..opq"}, entry{name: "models/net.bin", text: "net"}))),
	}
	child := r.push("car", "child", image...)
	size := len(r.pushed)
	r.manifest("car", "latest", map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
		"manifests": []any{map[string]any{
			"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:" + child, "size": size,
			"platform": map[string]string{"os": "linux", "architecture": runtime.GOARCH},
		}},
	})
	fetch(t, dir, "- {name: car, url: 'oci://"+r.addr+"/car', path: models, to: DIR/car}")
	if diff := cmp.Diff(map[string]string{"net.bin": "net"}, tree(t, dir+"/car")); diff != "" {
		t.Errorf("a modelcar (-want +got):\n%s", diff)
	}
	refused(t, dir, "- {name: car, url: 'oci://"+r.addr+"/car', path: weights, to: DIR/x}", "nothing of the image is in weights (models[].path)")

	// A cut in a layer.
	r.push("big", "1", r.layer("big", fileType, "big.bin", data))
	c := newCutter(t, "http://"+r.addr, func(n int64) (int64, bool) { return 300_000, n <= 6 })
	host := strings.TrimPrefix(c.addr, "http://")
	write(t, dir+"/.docker/config.json", fmt.Appendf(nil, `{"auths": {%q: {"auth": %q}}}`, host, login))
	fetch(t, dir, "- {name: big, url: 'oci://"+host+"/big:1', to: DIR/big}")
	if got := tree(t, dir+"/big")["big.bin"]; got != string(data) || c.cuts.Load() == 0 {
		t.Errorf("%d bytes came over %d cuts, want %d", len(got), c.cuts.Load(), len(data))
	}

	if err := os.Remove(dir + "/.docker/config.json"); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, "- {name: x, url: 'oci://"+r.addr+"/big:1', to: DIR/x}", r.addr+" wants a name and a password, and config.json (of DOCKER_CONFIG or ~/.docker) has none for it")
	refused(t, dir, "- {name: x, url: 'oci://"+r.addr+"/big:2', to: DIR/x}", "404 Not Found (MANIFEST_UNKNOWN: manifest unknown)", "DOCKER_CONFIG="+secretMount(t, r.addr, login))
}

// secretMount is a Secret of the type kubernetes.io/dockerconfigjson, as a volume shows it.
func secretMount(t *testing.T, host, login string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/.dockerconfigjson", fmt.Appendf(nil, `{"auths": {%q: {"auth": %q}}}`, host, login))
	return dir
}

// A registry that sends its clients to a token server first (distribution-spec, "token").
func TestRegistryWithTokens(t *testing.T) {
	t.Parallel()
	dir, blob := t.TempDir(), []byte("weights")
	m := fmt.Appendf(nil, `{"layers": [{"mediaType": "x", "digest": "sha256:%s", "size": %d, "annotations": {%q: "w.bin"}}]}`, sum(blob), len(blob), titleKey)
	var base string
	base = localServer(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/token" {
			user, password, _ := req.BasicAuth()
			if user != "user" || password != "password" || req.URL.Query().Get("scope") != "repository:net:pull" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			fmt.Fprint(w, `{"token": "abc"}`)
			return
		}
		if req.Header.Get("Authorization") != "Bearer abc" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+base+`/token",service="models",scope="repository:net:pull"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.Contains(req.URL.Path, "/manifests/") {
			_, _ = w.Write(m)
			return
		}
		_, _ = w.Write(blob)
	})
	host := strings.TrimPrefix(base, "http://")
	write(t, dir+"/.docker/config.json", fmt.Appendf(nil, `{"auths": {%q: {"username": "user", "password": "password"}}}`, host))
	fetch(t, dir, "- {name: net, url: 'oci://"+host+"/net:1', to: DIR/net}")
	if diff := cmp.Diff(map[string]string{"w.bin": "weights"}, tree(t, dir+"/net")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	refused(t, dir, "- {name: net, url: 'oci://"+host+"/net:1', to: DIR/x}", "cannot sign in: "+host+" answered 403 Forbidden", "DOCKER_CONFIG="+secretMount(t, host, base64.StdEncoding.EncodeToString([]byte("user:wrong"))))
	write(t, dir+"/token", []byte("abc"))
	fetch(t, dir, "- {name: net, url: 'oci://"+host+"/net:1', to: DIR/other, token_file: DIR/token}", "DOCKER_CONFIG=/none")
}

func TestHostileManifests(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + sum([]byte("x"))
	for _, tt := range []struct{ name, layers, want string }{
		{"up", `{"digest": "` + digest + `", "size": 1, "annotations": {"` + titleKey + `": "../x"}}`, `the name "../x" of a layer is no path of a file`},
		{"absolute", `{"digest": "` + digest + `", "size": 1, "annotations": {"` + titleKey + `": "/x"}}`, `the name "/x" of a layer is no path of a file`},
		{"our own", `{"digest": "` + digest + `", "size": 1, "annotations": {"` + titleKey + `": "` + stampName + `"}}`, "of a layer is no path of a file"},
		{"no digest", `{"digest": "md5:1", "size": 1}`, `the layer "md5:1" has no SHA-256`},
		{"other bytes", `{"digest": "` + digest + `", "size": 1, "annotations": {"` + titleKey + `": "x"}}`, "the SHA-256 of x is "},
		{"other size", `{"digest": "` + digest + `", "size": 5, "annotations": {"` + titleKey + `": "x"}}`, "x has 1 bytes, but 5 were announced"},
		{"nothing", "", "holds no file"},
	} {
		base := localServer(t, func(w http.ResponseWriter, req *http.Request) {
			if strings.Contains(req.URL.Path, "/manifests/") {
				fmt.Fprintf(w, `{"layers": [%s]}`, tt.layers)
				return
			}
			fmt.Fprint(w, "y")
		})
		dir := t.TempDir()
		refused(t, dir, "- {name: x, url: 'oci://"+strings.TrimPrefix(base, "http://")+"/x:1', to: DIR/x, retry_for: 0s}", tt.want)
	}
}
