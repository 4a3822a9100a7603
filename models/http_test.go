package models

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inpod/inpod/internal/testport"
)

func TestAFileFromNginx(t *testing.T) {
	t.Parallel()
	dir, docs := t.TempDir(), t.TempDir()
	data := noise(3 << 20)
	write(t, docs+"/net.onnx", data)
	url := nginx(t, docs)
	m := "- {name: net, url: '" + url + "/net.onnx', to: DIR/models/net}"

	log := fetch(t, dir, m)
	if got := tree(t, dir+"/models/net"); len(got) != 1 || got["net.onnx"] != string(data) {
		t.Errorf("got %d files, want net.onnx as it is", len(got))
	}
	if !strings.Contains(log, "the model is ready") {
		t.Errorf("the log does not say that it is ready:\n%s", log)
	}
	leftovers(t, dir+"/models")

	// Nothing is fetched while it has not changed, not even when somebody else's files came beside it.
	write(t, dir+"/models/net/cache/engine", []byte("x"))
	if log := fetch(t, dir, m); !strings.Contains(log, "the model is there and has not changed") {
		t.Errorf("the second start:\n%s", log)
	}
	// A changed one is, and takes its place as a whole.
	write(t, docs+"/net.onnx", data[:1<<20])
	fetch(t, dir, m)
	if got := tree(t, dir+"/models/net"); len(got) != 1 || got["net.onnx"] != string(data[:1<<20]) {
		t.Errorf("after the change there are %d files", len(got))
	}
	// So is one that was damaged here.
	if err := os.Truncate(dir+"/models/net/net.onnx", 5); err != nil {
		t.Fatal(err)
	}
	fetch(t, dir, m)
	if got := tree(t, dir+"/models/net"); got["net.onnx"] != string(data[:1<<20]) {
		t.Error("a damaged file was left")
	}
}

// A connection that is cut at any byte changes nothing of what comes out.
func TestCutsAtRandomBytes(t *testing.T) {
	t.Parallel()
	dir, docs := t.TempDir(), t.TempDir()
	data := noise(4 << 20)
	write(t, docs+"/net.bin", data)
	random := rand.New(rand.NewPCG(1, 2))
	c := newCutter(t, nginx(t, docs), func(n int64) (int64, bool) { return random.Int64N(100_000), n <= 50 })
	log := fetch(t, dir, fmt.Sprintf("- {name: net, url: '%s/net.bin', to: DIR/net, sha256: %s}", c.addr, sum(data)))
	if n := c.cuts.Load(); n != 50 {
		t.Errorf("%d cuts, want 50", n)
	}
	if n := strings.Count(log, "going on with a file that was fetched in part"); n < 40 {
		t.Errorf("the fetch went on %d times, want nearly 50", n)
	}
	if got := sum([]byte(tree(t, dir+"/net")["net.bin"])); got != sum(data) {
		t.Error("what came is not what was there")
	}
}

// A server that knows no ranges sends everything again.
func TestCutsWithoutRanges(t *testing.T) {
	t.Parallel()
	dir, docs := t.TempDir(), t.TempDir()
	data := noise(1 << 20)
	write(t, docs+"/net.bin", data)
	addr := port(t)
	host, p, _ := strings.Cut(addr, ":")
	serve(t, addr, "python3", "-m", "http.server", "--bind", host, "--directory", docs, p)
	c := newCutter(t, "http://"+addr, func(n int64) (int64, bool) { return 300_000 * n, n <= 3 })
	fetch(t, dir, fmt.Sprintf("- {name: net, url: '%s/net.bin', to: DIR/net}", c.addr))
	if got := tree(t, dir+"/net")["net.bin"]; got != string(data) {
		t.Errorf("%d bytes came, which are not what was there", len(got))
	}
}

// A file that changes between two parts is not put together from both.
func TestAFileThatChangesMeanwhile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old, fresh := noise(1<<20), []byte(strings.Repeat("new", 200_000))
	var calls atomic.Int32
	url := localServer(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			w.Header().Set("ETag", `"1"`)
			w.Header().Set("Content-Length", fmt.Sprint(len(old)))
			_, _ = w.Write(old[:500_000])
			panic(http.ErrAbortHandler)
		}
		if r.Header.Get("Range") != "" && r.Header.Get("If-Range") != `"1"` {
			t.Errorf("a range is asked for without a condition: %v", r.Header)
		}
		w.Header().Set("ETag", `"2"`)
		_, _ = w.Write(fresh)
	})
	fetch(t, dir, "- {name: m, url: '"+url+"/m', to: DIR/m}")
	if got := tree(t, dir+"/m")["m"]; got != string(fresh) {
		t.Errorf("%d bytes came, want the %d of the new file", len(got), len(fresh))
	}
}

func TestWrongChecksum(t *testing.T) {
	t.Parallel()
	dir, docs := t.TempDir(), t.TempDir()
	write(t, docs+"/net.bin", []byte("good"))
	url := nginx(t, docs)
	fetch(t, dir, fmt.Sprintf("- {name: net, url: '%s/net.bin', to: DIR/net, sha256: %s}", url, sum([]byte("good"))))
	write(t, docs+"/net.bin", []byte("evil"))
	// What is there is what is wanted: nobody is asked.
	fetch(t, dir, fmt.Sprintf("- {name: net, url: '%s/net.bin', to: DIR/net, sha256: %s}", url, sum([]byte("good"))))
	refused(t, dir, fmt.Sprintf("- {name: net, url: '%s/net.bin', to: DIR/net, sha256: %064d}", url, 0),
		fmt.Sprintf(`cannot fetch the model "net": the SHA-256 of net.bin is %s (4 bytes), want %064d`, sum([]byte("evil")), 0))
	if diff := cmp.Diff(map[string]string{"net.bin": "good"}, tree(t, dir+"/net")); diff != "" {
		t.Errorf("the old model (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(dir + "/.net.inpod/part"); !os.IsNotExist(err) {
		t.Errorf("the wrong file is still there: %v", err)
	}
}

func TestWhatServersAnswer(t *testing.T) {
	t.Parallel()
	var busy atomic.Int32
	url := localServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/busy":
			if busy.Add(1) < 4 {
				http.Error(w, "come back later", http.StatusServiceUnavailable)
				return
			}
			_, _ = w.Write([]byte("here"))
		case "/denied":
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `<?xml version="1.0"?><Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current time is too large.</Message></Error>`)
		case "/empty":
		default:
			http.NotFound(w, r)
		}
	})
	dir := t.TempDir()
	fetch(t, dir, "- {name: busy, url: '"+url+"/busy', to: DIR/busy}")
	fetch(t, dir, "- {name: empty, url: '"+url+"/empty', to: DIR/empty}")
	host := strings.TrimPrefix(url, "http://")
	refused(t, dir, "- {name: x, url: '"+url+"/none?sig=secret', to: DIR/x}", `cannot fetch the model "x": `+host+" answered 404 Not Found (404 page not found)")
	refused(t, dir, "- {name: x, url: '"+url+"/denied', to: DIR/x}",
		"answered 403 Forbidden (RequestTimeTooSkewed: The difference between the request time and the current time is too large.)")
	_, err := try(t, dir, "- {name: x, url: 'http://"+testport.Closed(t)+"/x?sig=secret', to: DIR/x, retry_for: 0s}")
	if want := `connection refused \(tried for \d+s without getting further\)$`; !regexp.MustCompile(want).MatchString(fmt.Sprint(err)) {
		t.Errorf("got the error %v, want %s", err, want)
	}
	// What is there is better than nothing when nobody can be asked.
	gone := localServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		w.Header().Set("ETag", `"1"`)
		_, _ = w.Write([]byte("x"))
	})
	fetch(t, dir, "- {name: gone, url: '"+gone+"/m', to: DIR/gone}")
	if log := fetch(t, dir, "- {name: gone, url: '"+gone+"/m', to: DIR/gone}"); !strings.Contains(log, "cannot ask whether the model has changed; what is there is used") {
		t.Errorf("the log: %s", log)
	}
}

// What a header says in secret goes to the host of the URL, and never into the log.
func TestSecretsStayWithTheirHost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := localServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Private-Token") != "" || r.Header.Get("Authorization") != "" {
			t.Errorf("another host was told %v", r.Header)
		}
		_, _ = w.Write([]byte("model"))
	})
	url := localServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Private-Token") != "hush-1" || r.Header.Get("Authorization") != "Bearer hush-2" {
			t.Errorf("the host was told %v", r.Header)
		}
		http.Redirect(w, r, other+"/store?signature=hush-3", http.StatusFound)
	})
	write(t, dir+"/token", []byte("hush-2\n"))
	write(t, dir+"/headers", []byte("# of the store\nPrivate-Token: hush-1\n"))
	log := fetch(t, dir, "- {name: m, url: '"+url+"/m.bin?key=hush-4', to: DIR/m, token_file: DIR/token, headers_file: DIR/headers}")
	if strings.Contains(log, "hush") {
		t.Errorf("a secret is in the log:\n%s", log)
	}
	stamp, err := os.ReadFile(dir + "/m/" + stampName)
	if err != nil || strings.Contains(string(stamp), "hush") {
		t.Errorf("the stamp: %v\n%s", err, stamp)
	}
	write(t, dir+"/headers", []byte("hush-1\n"))
	refused(t, dir, "- {name: m, url: '"+url+"/x', to: DIR/x, headers_file: DIR/headers}", "cannot read models[].headers_file: "+dir+"/headers:1 is not Name: value")
	refused(t, dir, "- {name: m, url: '"+url+"/x', to: DIR/x, token_file: DIR/none}", "cannot read models[].token_file: open "+dir+"/none: no such file or directory")
}

func TestPartsAndTheBackground(t *testing.T) {
	t.Parallel()
	dir, docs := t.TempDir(), t.TempDir()
	write(t, docs+"/a.bin", []byte("a"))
	write(t, docs+"/b.tar.gz", gz(t, tarOf(t, entry{name: "1/model.onnx", text: "b"})))
	url := nginx(t, docs)
	fetch(t, dir, fmt.Sprintf("- {name: pair, url: '{\"a\": \"%[1]s/a.bin\", \"b\": \"%[1]s/b.tar.gz\"}', to: DIR/pair}\n- {name: late, url: '%[1]s/none', background: true, to: DIR/late}", url))
	if diff := cmp.Diff(map[string]string{"a/a.bin": "a", "b/1/model.onnx": "b"}, tree(t, dir+"/pair")); diff != "" {
		t.Errorf("the parts (-want +got):\n%s", diff)
	}
}

// What no header field may hold is refused when it is read, and not tried again for ten minutes.
func TestHeadersThatCannotBeSent(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"Na(me: v", "Näme: v", ": v", "Name: a\x01b", "Name: a\x7f"} {
		write(t, dir+"/headers", []byte("Good: 1\n"+text+"\n"))
		err := readHeaders(dir+"/headers", http.Header{})
		if want := dir + "/headers:2 is not Name: value"; err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	write(t, dir+"/token", []byte("a\x01b\n"))
	if _, err := secret(dir + "/token"); err == nil {
		t.Error("a token with a control character is taken")
	}
	write(t, dir+"/headers", []byte("X-Name_1: ü\tv\n"))
	if err := readHeaders(dir+"/headers", http.Header{}); err != nil {
		t.Error(err)
	}
}

// What is behind the ? of a URL is not shown, also where the server repeats it.
func TestAServerThatRepeatsTheURL(t *testing.T) {
	for name, body := range map[string]func(r *http.Request) string{
		"as it was sent": func(r *http.Request) string { return "no " + r.URL.String() },
		"decoded":        func(r *http.Request) string { return "no " + r.URL.Query().Get("sig") },
		"in XML": func(r *http.Request) string {
			return "<Error><Code>Denied</Code><Message>" + r.URL.Query().Get("sig") + "</Message></Error>"
		},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, body(r), http.StatusForbidden) }))
		dir := t.TempDir()
		log, err := try(t, dir, "- {name: m, url: '"+srv.URL+"/x?part=1&sig=hush%2Fhush%2B1', to: DIR/m}")
		srv.Close()
		if err == nil || !strings.Contains(err.Error(), "answered 403 Forbidden") || strings.Contains(err.Error()+log, "hush") {
			t.Errorf("%s: %v\n%s", name, err, log)
		}
	}
}

func TestContentRange(t *testing.T) {
	for s, want := range map[string]string{
		"bytes 5-9/10": "5 10 true", "bytes 5-9/*": "5 -1 true", "bytes 5-8/10": "5 10 false", "bytes */10": "0 0 false",
		"bytes 9-5/10": "0 0 false", "bytes -5/10": "0 0 false", "items 5-9/10": "0 0 false", "": "0 0 false", "bytes 5-9/x": "5 0 false",
	} {
		first, total, ok := contentRange(s)
		if got := fmt.Sprint(first, total, ok); got != want {
			t.Errorf("%q: got %s, want %s", s, got, want)
		}
	}
}
