package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"slices"
	"testing"
)

// layer makes one out of name and content pairs.
func layer(t *testing.T, files ...string) *contents {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1])), Typeflag: tar.TypeReg}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c := newContents()
	if err := each(&buf, c.add); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLayers(t *testing.T) {
	t.Parallel()
	const key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA0123456789012345678901234567890123456789012345678901\n"
	const debian = "ID=debian\nVERSION_ID=\"12\"\n"
	base := []string{"usr/lib/os-release", debian, "usr/bin/python3.11", "ELF", "etc/shadow", "root:*:19000\n"}
	tests := []struct {
		name    string
		version string
		files   []string
		want    []string
	}{
		{"nothing", "tool1-python3.11-debian12", nil, nil},
		{"a key", "tool1-python3.11-debian12", []string{"opt/k.pem", key}, []string{"/opt/k.pem holds a private key"}},
		{"a key that a package brings", "tool1-python3.11-debian12", []string{"usr/lib/x/test.key", key, "var/lib/dpkg/info/x.list", "/.\n/usr/lib/x\n/usr/lib/x/test.key\n"}, nil},
		{"a password", "tool1-python3.11-debian12", []string{"etc/shadow", "root:$6$ab$cd:19000\nx::1\n"}, []string{"/etc/shadow holds a password's hash, of root", "/etc/shadow lets x in without a password"}},
		{"a host key", "tool1-python3.11-debian12", []string{"etc/ssh/ssh_host_ed25519_key", "x"}, []string{"/etc/ssh/ssh_host_ed25519_key is a host key, the same in every container; inpod makes them"}},
		{"waste", "tool1-python3.11-debian12", []string{"root/.cache/pip/x", string(make([]byte, 2e6))}, []string{"/root/.cache/pip holds 2 MB that nobody needs"}},
		{"another Python", "tool1-python3.10-debian12", nil, []string{"its version says Python 3.10, in the image are 3.11"}},
		{"no word of Python", "tool1-debian12", nil, []string{"has Python 3.11, and its version does not say so"}},
		{"no CUDA", "tool1-python3.11-cuda12.1.0-debian12", nil, []string{"its version says CUDA 12.1.0, in the image are none"}},
		{"CUDA", "tool1-python3.11-cuda12.1.0-debian12", []string{"usr/local/cuda-12.1/version.json", "{}"}, nil},
		{"another system", "tool1-python3.11-ubuntu22.04", nil, []string{"its version says ubuntu22.04, the image is debian12"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newContents()
			c.merge(layer(t, base...), true)
			c.merge(layer(t, test.files...), false)
			f := &file{labels: map[string]string{versionLabel: test.version}}
			var got []string
			c.check(f, func(format string, args ...any) { got = append(got, fmt.Sprintf(format, args...)) })
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
