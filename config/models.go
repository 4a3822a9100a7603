package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// modelsDir is where models are put that name no other place.
const modelsDir = "/models"

// Model is one entry of models.
type Model struct {
	Name   string `key:"name" required:"true" check:"modelname" doc:"What the model is called in the log, in /readyz?verbose and in metrics."`
	URL    string `key:"url" default:"" check:"modelurl" expand:"env" mask:"query" doc:"Where it is: http:// or https://, s3://BUCKET/KEY or s3://BUCKET/PREFIX/ (everything below it), oci://REGISTRY/REPOSITORY:TAG or @DIGEST, file:///PATH or an absolute path; or JSON that names several, {\"SUB\": \"URL\", …}, as for models[].models. Where it is ${VARIABLE:-} and that is not set, nothing is fetched."`
	To     string `key:"to" default:"" check:"realpath" expand:"env" doc:"Directory that the model is in when it is there. A single file is put into it under the last name of its URL. Empty: /models/NAME. What is there already is replaced only if inpod put it there."`
	SHA256 string `key:"sha256" default:"" check:"sha256" expand:"env" doc:"SHA-256 of the one file that url names, as 64 hexadecimal digits; of a registry's artifact that of its manifest. Where it is given and the model is there, nobody is asked whether it has changed."`
	Unpack string `key:"unpack" default:"auto" enum:"auto|on|off" doc:"Archives (tar, tar.gz, zip) are unpacked. auto: what is an archive by its name and by its content; formats that are archives inside, such as .pt, .npz or .mar, stay as they are. on: whatever its name is; anything else is an error. off: never."`
	Path   string `key:"path" default:"" check:"subpath" expand:"env" doc:"Directory inside the archive or the image whose content is the model, such as resnet-50 or models. The rest is left out. Empty: everything."`

	MaxSize    Size          `key:"max_size" default:"0" check:"notnegative" doc:"Bytes that the model may have when it is unpacked. 0: what the disk holds."`
	RetryFor   time.Duration `key:"retry_for" default:"10m" check:"notnegative" doc:"How long a fetch is tried again without getting a byte further. 0s: not at all."`
	Background bool          `key:"background" default:"false" doc:"The programs do not wait for it, and its failure ends nothing: it is tried again."`

	TokenFile   string `key:"token_file" default:"" check:"realpath" expand:"env" doc:"File with a bearer token for http, https and oci. It goes to the host of models[].url alone."`
	HeadersFile string `key:"headers_file" default:"" check:"realpath" expand:"env" doc:"File with lines Name: value that http and https requests carry, to the host of models[].url alone."`
	Endpoint    string `key:"endpoint" default:"" check:"endpoint" expand:"env" doc:"URL of the server of s3://, which is then addressed as ENDPOINT/BUCKET/KEY. Empty: $AWS_ENDPOINT_URL_S3, $AWS_ENDPOINT_URL or $S3_ENDPOINT_URL, else AWS."`
	Region      string `key:"region" default:"" expand:"env" doc:"Region of s3://. Empty: $AWS_REGION or $AWS_DEFAULT_REGION, else us-east-1."`
	PlainHTTP   bool   `key:"plain_http" default:"false" doc:"The registry of oci:// speaks HTTP without TLS. One on localhost is taken to."`

	Models []SubModel `key:"models" default:"[]" doc:"Instead of url: several parts, each in a directory of models[].to. Everything else that is said of the model is said of each."`
}

// SubModel is one entry of models[].models.
type SubModel struct {
	Name   string `key:"name" required:"true" check:"modelname" doc:"Name of the part and of its directory."`
	URL    string `key:"url" required:"true" check:"modelurl" expand:"env" mask:"query" doc:"Where it is."`
	SHA256 string `key:"sha256" default:"" check:"sha256" expand:"env" doc:"SHA-256 of the file."`
}

// Parts are what is fetched for the model: one for each directory. There is none where a url came out empty.
func (m *Model) Parts() []SubModel {
	if len(m.Models) > 0 {
		return slices.DeleteFunc(slices.Clone(m.Models), func(p SubModel) bool { return p.URL == "" })
	}
	if m.URL == "" {
		return nil
	}
	subs, err := subModels(m.URL)
	if err != nil || subs == nil {
		return []SubModel{{URL: m.URL, SHA256: m.SHA256}}
	}
	return subs
}

// subModels reads the JSON form of url; nil where it is none. The parts come in the order of their names.
func subModels(s string) ([]SubModel, error) {
	if !strings.HasPrefix(strings.TrimSpace(s), "{") {
		return nil, nil
	}
	var urls map[string]string
	if err := json.Unmarshal([]byte(s), &urls); err != nil {
		return nil, fmt.Errorf(`want {"name": "URL", …}: %w`, err)
	}
	subs := make([]SubModel, 0, len(urls))
	for _, name := range slices.Sorted(maps.Keys(urls)) {
		subs = append(subs, SubModel{Name: name, URL: urls[name]})
	}
	return subs, nil
}

func modelKey(i int) string { return "models[" + strconv.Itoa(i) + "]" }

// deriveModels sets where models are put.
func (c *Config) deriveModels() {
	for i := range c.Models {
		m := &c.Models[i]
		if m.To == "" && m.Name != "" {
			m.To = filepath.Join(modelsDir, m.Name)
		}
		m.SHA256 = strings.ToLower(m.SHA256)
		for j := range m.Models {
			m.Models[j].SHA256 = strings.ToLower(m.Models[j].SHA256)
		}
	}
}

// checkModels applies the rules that concern several keys.
func (c *Config) checkModels(report reporter) {
	seen := map[string]int{}
	for i := range c.Models {
		m, at := &c.Models[i], modelKey(i)
		if first, dup := seen[m.Name]; dup && m.Name != "" {
			report(at+".name", "%q is the name of models[%d] too", clip(m.Name), first)
		}
		seen[m.Name] = i
		for j := range i {
			if to, other := filepath.Clean(m.To), filepath.Clean(c.Models[j].To); within(to, other) || within(other, to) {
				report(at+".to", "%q and %q of models[%d] are in each other; want a directory for each model", clip(m.To), clip(c.Models[j].To), j)
			}
		}
		parts := map[string]int{}
		for j, p := range m.Models {
			if first, dup := parts[p.Name]; dup && p.Name != "" {
				report(fmt.Sprintf("%s.models[%d].name", at, j), "%q is the name of models[%d] too", clip(p.Name), first)
			}
			parts[p.Name] = j
		}
		switch {
		case m.URL == "" && len(m.Models) == 0 && !c.IsSet(at+".url"):
			report(at, "has neither url nor models")
		case m.URL != "" && len(m.Models) > 0:
			report(at+".url", "is given together with models; want one of the two")
		case m.SHA256 != "" && (len(m.Models) > 0 || len(m.Parts()) > 0 && m.Parts()[0].Name != ""):
			report(at+".sha256", "is the sum of one file, but there are several; give models[].sha256")
		}
	}
}

func checkModelName(s string) string {
	bad := strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	})
	if bad || s == "" || len(s) > 64 || s[0] == '.' {
		return fmt.Sprintf("%q is no name for a model: want at most 64 letters, digits, -, _ and ., the first no dot", clip(s))
	}
	return ""
}

// checkModelURL does not repeat what may hold a password.
func checkModelURL(s string) string {
	if s == "" {
		return ""
	}
	subs, err := subModels(s)
	if err != nil {
		return "is not the JSON of several models: " + err.Error()
	}
	for _, sub := range subs {
		if msg := checkModelName(sub.Name); msg != "" {
			return msg
		}
		if sub.URL == "" {
			return fmt.Sprintf("has a part %q without a URL", sub.Name)
		}
		if strings.HasPrefix(strings.TrimSpace(sub.URL), "{") {
			return fmt.Sprintf("has a part %q that has parts itself; want a URL", sub.Name)
		}
		if msg := checkModelURL(sub.URL); msg != "" {
			return fmt.Sprintf("has a part %q that %s", sub.Name, msg)
		}
	}
	if subs != nil || filepath.IsAbs(s) {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil {
		return "is not a URL"
	}
	if u.User != nil { // first: the other messages repeat the URL
		return "holds a name or a password, which everybody who sees the settings would see; give models[].headers_file or models[].token_file"
	}
	want := "http://, https://, s3://, oci://, file:/// or an absolute path"
	switch u.Scheme {
	case "http", "https", "oci":
		switch {
		case u.Host == "":
			return fmt.Sprintf("%q names no host", clip(MaskQuery(s)))
		case u.Port() != "" && !validPort(u.Port()):
			return fmt.Sprintf("has the port %q; want 1 to 65535", clip(u.Port()))
		case u.Scheme == "oci" && strings.Trim(u.Path, "/") == "":
			return fmt.Sprintf("%q is not oci://REGISTRY/REPOSITORY:TAG", clip(MaskQuery(s)))
		}
	case "s3":
		if u.Host == "" || strings.Trim(u.Path, "/") == "" && !strings.HasSuffix(u.Path, "/") {
			return fmt.Sprintf("%q is not s3://BUCKET/KEY", clip(MaskQuery(s)))
		}
	case "file":
		if u.Host != "" || !filepath.IsAbs(u.Path) {
			return fmt.Sprintf("%q is not file:///PATH", clip(s))
		}
	case "":
		return fmt.Sprintf("%q has no scheme; want %s", clip(MaskQuery(s)), want)
	default:
		return fmt.Sprintf("has the scheme %q; want %s", clip(u.Scheme), want)
	}
	// Only a web server is asked with them: what is behind would be dropped without a word.
	if (u.RawQuery != "" || u.Fragment != "") && u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Sprintf("has a ? or a #, which %s:// does not read; write %%3F or %%23 where it is a part of the name", u.Scheme)
	}
	return ""
}

func checkSHA256(s string) string {
	if s == "" {
		return ""
	}
	if len(s) != 64 || strings.Trim(s, "0123456789abcdefABCDEF") != "" {
		return fmt.Sprintf("%q is not a SHA-256; want 64 hexadecimal digits", clip(s))
	}
	return ""
}

func checkSubPath(s string) string {
	if s == "" || filepath.IsLocal(strings.Trim(s, "/")) {
		return ""
	}
	return fmt.Sprintf("%q is not a directory inside an archive, such as models/resnet", clip(s))
}

func checkEndpoint(s string) string {
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return fmt.Sprintf("%q is not a URL such as https://minio.example.com:9000", clip(MaskQuery(s)))
	}
	return ""
}

// MaskQuery hides what a URL says after its ?, where signatures are.
func MaskQuery(s string) string {
	const masked = "?********"
	if subs, err := subModels(s); err == nil && subs != nil {
		urls := map[string]string{}
		for _, sub := range subs {
			urls[sub.Name] = MaskQuery(sub.URL)
		}
		if b, err := json.Marshal(urls); err == nil {
			return string(b)
		}
	}
	if before, _, ok := strings.Cut(s, "?"); ok {
		return before + masked
	}
	return s
}
