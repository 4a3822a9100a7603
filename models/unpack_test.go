package models

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// zipEntry is one of a zip.
type zipEntry struct {
	name, text string
	mode       fs.FileMode
}

func zipOf(t testing.TB, entries ...zipEntry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		if e.mode == 0 {
			e.mode = 0o644
		}
		h.SetMode(e.mode)
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, e.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWhatIsUnpacked(t *testing.T) {
	t.Parallel()
	archive := tarOf(t, entry{name: "./", kind: tar.TypeDir, mode: 0o755}, entry{name: "./a/b.txt", text: "b"}, entry{name: "run.sh", text: "r", mode: 0o4755},
		entry{name: "a/l", kind: tar.TypeSymlink, link: "../run.sh"}, entry{name: "a/h", kind: tar.TypeLink, link: "./a/b.txt"})
	unpacked := map[string]string{"a/b.txt": "b", "run.sh": "r", "a/l": "-> ../run.sh", "a/h": "b"}
	zipped := zipOf(t, zipEntry{name: "z/"}, zipEntry{name: "z/x.txt", text: "x"})
	whole := func(b []byte) map[string]string { return map[string]string{"": string(b)} }
	for _, tt := range []struct {
		name   string
		data   []byte
		keys   string
		want   map[string]string // a file with the name "" is the fetched one itself
		refuse string
	}{
		{"m.tar.gz", gz(t, archive), "", unpacked, ""},
		{"m.tgz", archive, "", unpacked, ""}, // by content
		{"m.tar", archive, "", unpacked, ""},
		{"download", gz(t, archive), "", unpacked, ""}, // a name that says nothing
		{"m.zip", zipped, "", map[string]string{"z/x.txt": "x"}, ""},
		{"m.tar.gz", gz(t, archive), "unpack: off", whole(gz(t, archive)), ""},
		{"m.pt", zipped, "", whole(zipped), ""},
		{"m.nemo", archive, "", whole(archive), ""},
		{"m.nemo", archive, "unpack: on", unpacked, ""},
		{"m.mar", zipped, "unpack: on", map[string]string{"z/x.txt": "x"}, ""},
		{"blob", zipped, "", whole(zipped), ""},
		{"m.bin.gz", gz(t, []byte("weights")), "", whole(gz(t, []byte("weights"))), ""},
		{"m.zip", zipped, "path: z", map[string]string{"x.txt": "x"}, ""},
		{"m.tar", archive, "path: a, unpack: auto", nil, `the symbolic link "l" leads nowhere inside the model`},
		{"m.tar", archive, "path: b", nil, `cannot unpack m.tar (tar): it holds no directory "b" (models[].path); at its top are a, run.sh`},
		{"m.pt", zipped, "path: b", nil, "path is given, but m.pt is no archive"},
		{"m.tar.gz", []byte("<html>not found</html>"), "", nil, "m.tar.gz is no archive that is read (tar, tar.gz, zip); unpack: off keeps it as it is"},
		{"m.tar.zst", []byte("\x28\xb5\x2f\xfd"), "", nil, "m.tar.zst is packed in a way that is not read; want tar, tar.gz or zip, or unpack: off"},
		{"m.bin", []byte("weights"), "unpack: on", nil, "m.bin is no archive that is read"},
		{"m.tar.gz", gz(t, archive)[:150], "", nil, "unexpected EOF"},
		{"m.tar", archive, "max_size: 1", nil, "it has more than 1 (models[].max_size)"},
		{"m.tar", tarOf(t), "", nil, "there is no file in it"},
	} {
		dir := t.TempDir()
		write(t, dir+"/"+tt.name, tt.data)
		m := fmt.Sprintf("- {name: m, url: DIR/%s, to: DIR/to/m, %s}", tt.name, tt.keys)
		if tt.refuse != "" {
			refused(t, dir, m, tt.refuse)
			if list, _ := os.ReadDir(dir + "/to/m"); len(list) > 0 {
				t.Errorf("%s %s: %d files are there all the same", tt.name, tt.keys, len(list))
			}
			continue
		}
		fetch(t, dir, m)
		got := tree(t, dir+"/to/m")
		if one, ok := got[tt.name]; ok && len(got) == 1 {
			got = map[string]string{"": one}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", tt.name, tt.keys, diff)
		}
		if st, err := os.Stat(dir + "/to/m/run.sh"); err == nil && st.Mode() != 0o755 {
			t.Errorf("%s: run.sh has the mode %v, want 0755 without set-uid", tt.name, st.Mode())
		}
		leftovers(t, dir+"/to")
	}
}

// hostile are archives that try to write, or to lead, out of their directory.
func hostile(t testing.TB) map[string][]byte {
	return map[string][]byte{
		"up":                     tarOf(t, entry{name: "../evil", text: "x"}),
		"up in the middle":       tarOf(t, entry{name: "a/../../evil", text: "x"}),
		"absolute":               tarOf(t, entry{name: "/tmp/evil", text: "x"}),
		"a link out":             tarOf(t, entry{name: "l", kind: tar.TypeSymlink, link: "../.."}, entry{name: "f", text: "x"}),
		"through a link":         tarOf(t, entry{name: "l", kind: tar.TypeSymlink, link: ".."}, entry{name: "l/evil", text: "x"}),
		"an absolute link":       tarOf(t, entry{name: "l", kind: tar.TypeSymlink, link: "/etc"}, entry{name: "l/evil", text: "x"}),
		"link upon link":         tarOf(t, entry{name: "d", kind: tar.TypeSymlink, link: "."}, entry{name: "d/l", kind: tar.TypeSymlink, link: "../x"}, entry{name: "f", text: "x"}),
		"a link that changes":    tarOf(t, entry{name: "d/x", text: "x"}, entry{name: "e", kind: tar.TypeSymlink, link: "d/../.."}, entry{name: "d", kind: tar.TypeSymlink, link: "."}),
		"over a link":            tarOf(t, entry{name: "f", kind: tar.TypeSymlink, link: "../evil"}, entry{name: "f", text: "x"}, entry{name: "g", kind: tar.TypeSymlink, link: "../evil"}),
		"a hard link out":        tarOf(t, entry{name: "h", kind: tar.TypeLink, link: "../../etc/passwd"}),
		"a hard link to nothing": tarOf(t, entry{name: "h", kind: tar.TypeLink, link: "none"}),
		"a hard link to a link":  tarOf(t, entry{name: "l", kind: tar.TypeSymlink, link: "f"}, entry{name: "f", text: "x"}, entry{name: "h", kind: tar.TypeLink, link: "l"}),
		"a device":               tarOf(t, entry{name: "null", kind: tar.TypeChar}),
		"a fifo":                 tarOf(t, entry{name: "fifo", kind: tar.TypeFifo}),
		"our own name":           tarOf(t, entry{name: stampName, text: "{}"}),
		"our own directory":      tarOf(t, entry{name: ".inpod/owned", text: ""}),
		"a backslash":            tarOf(t, entry{name: `..\evil`, text: "x"}),
		"too deep":               tarOf(t, entry{name: strings.Repeat("d/", 200) + "f", text: "x"}),
		"zip: up":                zipOf(t, zipEntry{name: "../evil", text: "x"}),
		"zip: absolute":          zipOf(t, zipEntry{name: "/evil", text: "x"}),
		"zip: a link out":        zipOf(t, zipEntry{name: "l", text: "../..", mode: fs.ModeSymlink | 0o777}, zipEntry{name: "f", text: "x"}),
		"zip: a device":          zipOf(t, zipEntry{name: "d", mode: fs.ModeDevice | 0o666}),
	}
}

func TestHostileArchives(t *testing.T) {
	t.Parallel()
	for name, data := range hostile(t) {
		dir := t.TempDir()
		ext := ".tar"
		if strings.HasPrefix(name, "zip") {
			ext = ".zip"
		}
		write(t, dir+"/in/m"+ext, data)
		log, err := try(t, dir, "- {name: m, url: DIR/in/m"+ext+", to: DIR/a/b/m}")
		if err == nil {
			t.Errorf("%s: it was taken: %v\n%s", name, tree(t, dir+"/a/b/m"), log)
		}
		for path := range tree(t, dir) {
			if !strings.HasPrefix(path, "in/") && !strings.HasPrefix(path, "a/b/.m.inpod/") {
				t.Errorf("%s: wrote %s", name, path)
			}
		}
	}
}

// max_size is of the whole model, not of each archive or file of it.
func TestMaxSizeIsOfTheModel(t *testing.T) {
	dir, r := t.TempDir(), newRegistry(t)
	login := base64.StdEncoding.EncodeToString([]byte("user:password"))
	write(t, dir+"/.docker/config.json", fmt.Appendf(nil, `{"auths": {%q: {"auth": %q}}}`, r.addr, login))
	layer := func(name string) descriptor {
		return r.layer("m", layerType, "", gz(t, tarOf(t, entry{name: name, text: "0123456789"})))
	}
	r.push("m", "1", layer("a"), layer("b"))
	write(t, dir+"/src/a.bin", []byte("0123456789"))
	write(t, dir+"/src/b.bin", []byte("0123456789"))
	for _, url := range []string{"oci://" + r.addr + "/m:1", dir + "/src"} {
		m := "- {name: m, to: DIR/m, url: '" + url + "', max_size: "
		refused(t, dir, m+"19}", "it has more than 19 (models[].max_size)")
		fetch(t, dir, m+"20}")
		if err := os.RemoveAll(dir + "/m"); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever an archive says, nothing is written outside, and no link leads there.
func FuzzUnpack(f *testing.F) {
	for _, data := range hostile(f) {
		f.Add(data)
	}
	f.Add(gz(f, tarOf(f, entry{name: "a/b", text: "x"})))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		dir := t.TempDir()
		inside := filepath.Join(dir, "x", "y")
		if err := os.MkdirAll(inside, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(inside)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		part, err := os.Open(write(t, filepath.Join(dir, "part"), data))
		if err != nil {
			t.Fatal(err)
		}
		defer part.Close()
		kind, err := sniff(bytes.NewReader(data))
		if err != nil || kind == "" {
			return
		}
		x := &unpacker{ctx: context.Background(), root: root, limit: 1 << 20}
		if x.all(part, kind) == nil {
			if (&stamp{}).survey(context.Background(), root) == nil {
				_ = filepath.WalkDir(inside, func(path string, d fs.DirEntry, err error) error {
					if err == nil && d.Type()&fs.ModeSymlink != 0 {
						if to, err := filepath.EvalSymlinks(path); err == nil && to != inside && !strings.HasPrefix(to, inside+"/") {
							t.Errorf("%s leads to %s", path, to)
						}
					}
					return nil
				})
			}
		}
		for path := range tree(t, dir) {
			if path != "part" && !strings.HasPrefix(path, "x/y/") {
				t.Errorf("wrote %s", path)
			}
		}
	})
}
