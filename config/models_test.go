package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const modelsYAML = `models:
- name: resnet
  url: https://models.example.com/resnet.tar.gz?X-Amz-Signature=secret
  sha256: E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855
  path: resnet-50
- {name: bert, url: "${KUBEFLOW_MODEL_PATH:-}", to: /models/nlp, background: true, retry_for: 1h}
- name: pair
  endpoint: http://minio:9000
  models: [{name: a, url: "s3://b/a.onnx"}, {name: b, url: "s3://b/b.onnx", sha256: "${SUM}"}]
`

func TestModels(t *testing.T) {
	sum := strings.Repeat("0", 64)
	c, err := Parse("f", []byte(modelsYAML), Options{Env: []string{
		`KUBEFLOW_MODEL_PATH={"two": "https://h/2.zip?token=secret", "one": "oci://r/one:1"}`, "SUM=" + sum,
	}})
	if err != nil {
		t.Fatal(err)
	}
	resnet, bert, pair := &c.Models[0], &c.Models[1], &c.Models[2]
	if resnet.To != "/models/resnet" || resnet.SHA256 != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("resnet: %+v", resnet)
	}
	if bert.To != "/models/nlp" || !bert.Background || bert.RetryFor != time.Hour || bert.Unpack != "auto" {
		t.Errorf("bert: %+v", bert)
	}
	if diff := cmp.Diff([]SubModel{{Name: "one", URL: "oci://r/one:1"}, {Name: "two", URL: "https://h/2.zip?token=secret"}}, bert.Parts()); diff != "" {
		t.Errorf("the parts of bert (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]SubModel{{URL: resnet.URL, SHA256: resnet.SHA256}}, resnet.Parts()); diff != "" {
		t.Errorf("the parts of resnet (-want +got):\n%s", diff)
	}
	if parts := pair.Parts(); len(parts) != 2 || parts[1].SHA256 != sum {
		t.Errorf("the parts of pair: %+v", parts)
	}
	if text := c.YAML(); strings.Contains(text, "secret") {
		t.Errorf("the settings are shown with what signs a URL:\n%s", text)
	}
	if url := c.Tree()["models"].([]any)[0].(map[string]any)["url"]; url != "https://models.example.com/resnet.tar.gz?********" {
		t.Errorf("the API shows the URL %q", url)
	}
}

func TestModelsFromTheEnvironment(t *testing.T) {
	c, err := Parse("f", nil, Options{Env: []string{`INPOD_MODELS=[{"name": "m", "url": "${KUBEFLOW_MODEL_PATH:-}"}]`}})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Models) != 1 || c.Models[0].Parts() != nil {
		t.Errorf("got %+v, want one model without parts", c.Models)
	}
}

// A part whose variable is not set is left out, as a model is.
func TestAPartWithoutAURL(t *testing.T) {
	c, err := Parse("f", []byte("models: [{name: m, models: [{name: a, url: '${READER_URL:-}'}, {name: b, url: 'http://h/b'}]}]"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]SubModel{{Name: "b", URL: "http://h/b"}}, c.Models[0].Parts()); diff != "" {
		t.Errorf("the parts (-want +got):\n%s", diff)
	}
}

func TestBadModels(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing to fetch", "{name: a}", "f:2: models[0]: has neither url nor models"},
		{"both", "{name: a, url: 'http://h/x', models: [{name: b, url: 'http://h/y'}]}", "f:2: models[0].url: is given together with models; want one of the two"},
		{"a name", "{name: ../a, url: 'http://h/x'}", `f:2: models[0].name: "../a" is no name for a model: want at most 64 letters, digits, -, _ and ., the first no dot`},
		{"a relative target", "{name: a, url: 'http://h/x', to: models}", `f:2: models[0].to: "models" is a relative path; want an absolute one`},
		{"a sum", "{name: a, url: 'http://h/x', sha256: abc}", `f:2: models[0].sha256: "abc" is not a SHA-256; want 64 hexadecimal digits`},
		{"a way out", "{name: a, url: 'http://h/x', path: ../x}", `f:2: models[0].path: "../x" is not a directory inside an archive, such as models/resnet`},
		{"no scheme", "{name: a, url: host/x}", `f:2: models[0].url: "host/x" has no scheme; want http://, https://, s3://, oci://, file:/// or an absolute path`},
		{"a scheme", "{name: a, url: 'ftp://host/x'}", `f:2: models[0].url: has the scheme "ftp"; want http://, https://, s3://, oci://, file:/// or an absolute path`},
		{"a password", "{name: a, url: 'https://me:pw@host/x'}", "f:2: models[0].url: holds a name or a password, which everybody who sees the settings would see; give models[].headers_file or models[].token_file"},
		{"a password without a host", "{name: a, url: 'https://me:pw@/x'}", "f:2: models[0].url: holds a name or a password, which everybody who sees the settings would see; give models[].headers_file or models[].token_file"},
		{"a port", "{name: a, url: 'https://host:99999/x'}", `f:2: models[0].url: has the port "99999"; want 1 to 65535`},
		{"a version of an object", "{name: a, url: 's3://bucket/key?versionId=3'}", "f:2: models[0].url: has a ? or a #, which s3:// does not read; write %3F or %23 where it is a part of the name"},
		{"a # in a key", "{name: a, url: 's3://bucket/key#3'}", "f:2: models[0].url: has a ? or a #, which s3:// does not read; write %3F or %23 where it is a part of the name"},
		{"a ? in a file's name", "{name: a, url: 'file:///a?b'}", "f:2: models[0].url: has a ? or a #, which file:// does not read; write %3F or %23 where it is a part of the name"},
		{"a registry alone", "{name: a, url: 'oci://host:5000/'}", `f:2: models[0].url: "oci://host:5000/" is not oci://REGISTRY/REPOSITORY:TAG`},
		{"a bucket alone", "{name: a, url: 's3://bucket'}", `f:2: models[0].url: "s3://bucket" is not s3://BUCKET/KEY`},
		{"bad JSON", `{name: a, url: '{"a": 1}'}`, "f:2: models[0].url: is not the JSON of several models: want {\"name\": \"URL\", …}: json: cannot unmarshal number into Go value of type string"},
		{"bad part", `{name: a, url: '{"a": "x"}'}`, `f:2: models[0].url: has a part "a" that "x" has no scheme; want http://, https://, s3://, oci://, file:/// or an absolute path`},
		{"a part without a URL", `{name: a, url: '{"b": "http://h/b", "a": ""}'}`, `f:2: models[0].url: has a part "a" without a URL`},
		{"a part that is null", `{name: a, url: '{"a": null}'}`, `f:2: models[0].url: has a part "a" without a URL`},
		{"parts of a part", `{name: a, url: '{"a": " {}"}'}`, `f:2: models[0].url: has a part "a" that has parts itself; want a URL`},
		{"one sum for two", `{name: a, url: '{"a": "http://h/a", "b": "http://h/b"}', sha256: ` + strings.Repeat("1", 64) + "}", "f:2: models[0].sha256: is the sum of one file, but there are several; give models[].sha256"},
		{"an endpoint", "{name: a, url: 's3://b/x', endpoint: 'minio:9000'}", `f:2: models[0].endpoint: "minio:9000" is not a URL such as https://minio.example.com:9000`},
		{"the same name", "{name: a, url: 'http://h/x'}\n- {name: a, url: 'http://h/x', to: /b}", `f:3: models[1].name: "a" is the name of models[0] too`},
		{"in each other", "{name: a, url: 'http://h/x', to: /m}\n- {name: b, url: 'http://h/x', to: /m/b/}", `f:3: models[1].to: "/m/b/" and "/m" of models[0] are in each other; want a directory for each model`},
	} {
		_, err := Parse("f", []byte("models:\n- "+tt.text+"\n"), Options{})
		if err == nil {
			t.Errorf("%s: taken", tt.name)
		} else if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
