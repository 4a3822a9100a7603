package models

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// emptySum is the SHA-256 of nothing.
const emptySum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// The examples of docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html that are GETs.
func TestSignatureExamples(t *testing.T) {
	source := s3Source{
		u: &unit{}, base: url.URL{Scheme: "https", Host: "examplebucket.s3.amazonaws.com", Path: "/"}, region: "us-east-1",
		keys: aws.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"},
		now:  func() time.Time { return time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC) },
	}
	for _, tt := range []struct{ name, key, query, header, signed, want string }{
		{
			"an object with a range", "test.txt", "", "bytes=0-9", "host;range;x-amz-content-sha256;x-amz-date",
			"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
		},
		{
			"the lifecycle of a bucket", "", "lifecycle", "", "host;x-amz-content-sha256;x-amz-date",
			"fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
		},
		{
			"a list of objects", "", "max-keys=2&prefix=J", "", "host;x-amz-content-sha256;x-amz-date",
			"34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
		},
	} {
		at := source.base
		at.Path += tt.key
		at.RawPath = escapeKey(at.Path)
		at.RawQuery = tt.query
		req, err := http.NewRequest(http.MethodGet, at.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.header != "" {
			req.Header.Set("Range", tt.header)
		}
		if err := source.sign(t.Context(), req, emptySum); err != nil {
			t.Fatal(err)
		}
		want := "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=" + tt.signed + ", Signature=" + tt.want
		if got := req.Header.Get("Authorization"); got != want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, want)
		}
	}
}

func TestEscapeKey(t *testing.T) {
	for key, want := range map[string]string{
		"a/b.c-d_e~f": "a/b.c-d_e~f", "a b+c": "a%20b%2Bc", "ü$@=&:,;?#[]": "%C3%BC%24%40%3D%26%3A%2C%3B%3F%23%5B%5D", "100%": "100%25", "a//b": "a//b",
	} {
		if got := escapeKey(key); got != want {
			t.Errorf("%q: got %q, want %q", key, got, want)
		}
	}
}

func FuzzEscapeKey(f *testing.F) {
	for _, s := range []string{"a/b", "a b", "ü", "%41", "..", "?", "\x00\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		u := url.URL{Scheme: "http", Host: "h", Path: "/" + key, RawPath: escapeKey("/" + key)}
		back, err := url.PathUnescape(u.RawPath)
		if err != nil || back != u.Path {
			t.Fatalf("%q is escaped to %q, which means %q (%v)", u.Path, u.RawPath, back, err)
		}
		if got := u.EscapedPath(); got != u.RawPath {
			t.Errorf("what is sent is %q, what is signed %q", got, u.RawPath)
		}
	})
}

// fakeS3 is a store of its own with one bucket. Signatures are looked at for their form only.
func fakeS3(t *testing.T, objects map[string][]byte) string {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	for key, b := range objects {
		if _, err := backend.PutObject("bucket", key, map[string]string{}, bytes.NewReader(b), int64(len(b)), nil); err != nil {
			t.Fatal(err)
		}
	}
	store := gofakes3.New(backend).Server()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, "<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>")
			return
		}
		store.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestS3(t *testing.T) {
	t.Parallel()
	dir, data := t.TempDir(), noise(2<<20)
	objects := map[string][]byte{
		"nets/resnet 50.tar.gz": gz(t, tarOf(t, entry{name: "resnet/model.onnx", text: "weights"})), "big.bin": data,
		"tree/": nil, "tree/a.bin": []byte("a"), "tree/sub/b+ü.bin": []byte("b"), "treehouse": []byte("no"),
	}
	for i := range 1100 { // more than one page
		objects[fmt.Sprintf("many/%04d", i)] = []byte{byte(i)}
	}
	endpoint := fakeS3(t, objects)
	env := []string{"AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret", "AWS_ENDPOINT_URL=" + endpoint}

	one := "- {name: one, url: 's3://bucket/nets/resnet 50.tar.gz', path: resnet, to: DIR/one}"
	fetch(t, dir, one, env...)
	if diff := cmp.Diff(map[string]string{"model.onnx": "weights"}, tree(t, dir+"/one")); diff != "" {
		t.Errorf("an object (-want +got):\n%s", diff)
	}
	if log := fetch(t, dir, one, env...); !strings.Contains(log, "has not changed") {
		t.Errorf("the second start:\n%s", log)
	}
	prefix := "- {name: tree, url: 's3://bucket/tree/', to: DIR/tree}"
	fetch(t, dir, prefix, env...)
	if diff := cmp.Diff(map[string]string{"a.bin": "a", "sub/b+ü.bin": "b"}, tree(t, dir+"/tree")); diff != "" {
		t.Errorf("a prefix (-want +got):\n%s", diff)
	}
	if log := fetch(t, dir, prefix, env...); !strings.Contains(log, "has not changed") {
		t.Errorf("the second start:\n%s", log)
	}
	fetch(t, dir, "- {name: many, url: 's3://bucket/many/', to: DIR/many}", env...)
	if got := tree(t, dir+"/many"); len(got) != 1100 {
		t.Errorf("%d objects of many pages came, want 1100", len(got))
	}

	// The shared file, and a connection that is cut.
	write(t, dir+"/.aws/credentials", []byte("[other]\naws_access_key_id = X\n[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key=secret\n"))
	c := newCutter(t, endpoint, func(n int64) (int64, bool) { return 400_000, n <= 4 })
	fetch(t, dir, fmt.Sprintf("- {name: big, url: 's3://bucket/big.bin', to: DIR/big, endpoint: '%s', sha256: %s}", c.addr, sum(data)))
	if c.cuts.Load() != 4 {
		t.Errorf("%d cuts, want 4", c.cuts.Load())
	}

	refused(t, dir, "- {name: x, url: 's3://bucket/none', to: DIR/x}", "answered 404 Not Found (NoSuchKey)", env...)
	refused(t, dir, "- {name: x, url: 's3://bucket/none/', to: DIR/x}", "there is no object below s3://bucket/none/", env...)
	refused(t, dir, "- {name: x, url: 's3://bucket/big.bin', to: DIR/x}", "answered 403 Forbidden (AccessDenied: Access Denied.)",
		"AWS_ENDPOINT_URL="+endpoint, "AWS_SHARED_CREDENTIALS_FILE="+write(t, dir+"/empty", nil))
	refused(t, dir, "- {name: x, url: 's3://bucket/big.bin', to: DIR/x}", `/.aws/credentials has no aws_access_key_id and aws_secret_access_key for the profile "other"`, "AWS_PROFILE=other")
}

func TestWhereS3Is(t *testing.T) {
	for _, tt := range []struct {
		name, url, endpoint string
		env                 map[string]string
		want                string
	}{
		{"AWS", "s3://bucket/a/b", "", nil, "https://bucket.s3.us-east-1.amazonaws.com/a/b us-east-1"},
		{"a region", "s3://bucket/a", "", map[string]string{"AWS_REGION": "eu-west-1"}, "https://bucket.s3.eu-west-1.amazonaws.com/a eu-west-1"},
		{"a bucket with dots", "s3://my.bucket/a", "", nil, "https://s3.us-east-1.amazonaws.com/my.bucket/a us-east-1"},
		{"an endpoint", "s3://bucket/a", "http://minio:9000/", nil, "http://minio:9000/bucket/a us-east-1"},
		{"the environment's", "s3://bucket/a", "", map[string]string{"S3_ENDPOINT_URL": "https://s3.example.com/base"}, "https://s3.example.com/base/bucket/a us-east-1"},
	} {
		at, err := url.Parse(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		m := parse(t, t.TempDir(), "- {name: m, url: '"+tt.url+"', endpoint: '"+tt.endpoint+"'}")
		if tt.env == nil {
			tt.env = map[string]string{}
		}
		s, err := newS3Source(&unit{url: tt.url, model: &m[0], env: tt.env}, at)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		req, err := s.request(t.Context(), s.key, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := req.URL.String() + " " + s.region; got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}
