//go:build images

package images

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// page is one tab of a headless Chromium, driven by the DevTools protocol over a pipe: no port, no library.
// See chromedevtools.github.io/devtools-protocol.
type page struct {
	t       *testing.T
	to      io.Writer
	from    *bufio.Reader
	session string
	id      atomic.Int64
	events  []string // what the page logged as errors
}

// openPage starts Chromium for the length of the test. arguments are added to its own.
func openPage(t *testing.T, ctx context.Context, arguments ...string) *page {
	t.Helper()
	commandsOut, commandsIn, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	answersOut, answersIn, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{
		"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe",
		"--window-size=1280,900", "--hide-scrollbars", "--no-proxy-server", "--disable-background-networking",
		"--disable-component-update", "--user-data-dir=" + filepath.Join(t.TempDir(), "profile"),
	}, arguments...)
	cmd := exec.CommandContext(ctx, "chromium", args...)
	cmd.ExtraFiles = []*os.File{commandsOut, answersIn} // 3 and 4, as the flag wants them
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	commandsOut.Close()
	answersIn.Close()
	p := &page{t: t, to: commandsIn, from: bufio.NewReaderSize(answersOut, 1<<20)}
	t.Cleanup(func() {
		commandsIn.Close() // the end of the pipe ends it
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		answersOut.Close()
		if t.Failed() {
			t.Logf("the page's errors: %q\nchromium: %s", p.events, log.Bytes())
		}
	})
	_ = answersOut.SetReadDeadline(deadline(ctx))
	var target struct{ TargetID string }
	p.call(&target, "Target.createTarget", map[string]any{"url": "about:blank"})
	var attached struct{ SessionID string }
	p.call(&attached, "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true})
	p.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		p.call(nil, domain+".enable", nil)
	}
	return p
}

func deadline(ctx context.Context) time.Time {
	d, _ := ctx.Deadline()
	return d
}

// call sends one command and waits for its answer; events that come before are noted.
func (p *page) call(result any, method string, params map[string]any) {
	p.t.Helper()
	if err := p.try(result, method, params); err != nil {
		p.t.Fatalf("chromium: %v", err)
	}
}

func (p *page) try(result any, method string, params map[string]any) error {
	id := p.id.Add(1)
	message := map[string]any{"id": id, "method": method, "params": params}
	if p.session != "" {
		message["sessionId"] = p.session
	}
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if _, err := p.to.Write(append(text, 0)); err != nil {
		return fmt.Errorf("cannot send %s: %w", method, err)
	}
	for {
		text, err := p.from.ReadBytes(0)
		if err != nil {
			return fmt.Errorf("no answer to %s: %w", method, err)
		}
		var answer struct {
			ID     int64
			Method string
			Params json.RawMessage
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &answer); err != nil {
			return err
		}
		switch {
		case answer.Method == "Runtime.exceptionThrown" || answer.Method == "Log.entryAdded":
			p.events = append(p.events, string(answer.Params[:min(len(answer.Params), 500)]))
		case answer.ID == id && answer.Error != nil:
			return fmt.Errorf("%s: %s", method, answer.Error.Message)
		case answer.ID == id && result != nil:
			return json.Unmarshal(answer.Result, result)
		case answer.ID == id:
			return nil
		}
	}
}

const networkChanged = "net::ERR_NETWORK_CHANGED"

// visit begins to load url, and tells whether it may come to something.
func (p *page) visit(url string) bool {
	p.t.Helper()
	var went struct{ ErrorText string }
	p.call(&went, "Page.navigate", map[string]any{"url": url})
	if went.ErrorText != "" && went.ErrorText != networkChanged {
		p.t.Fatalf("%s: %s", url, went.ErrorText)
	}
	return went.ErrorText == ""
}

// load goes to url and waits until the expression is "true" there. Chromium gives up what it loads when an interface of the machine
// comes or goes, as those of other tests' containers do; then the page is loaded again.
func (p *page) load(ctx context.Context, url, expression string) {
	p.t.Helper()
	for {
		begin := len(p.events)
		p.visit("about:blank") // a mere #fragment would load nothing
		vain := func() bool {
			return slices.ContainsFunc(p.events[begin:], func(e string) bool { return strings.Contains(e, networkChanged) })
		}
		if p.visit(url) && p.poll(ctx, expression, vain) {
			return
		}
	}
}

// eval runs an expression in the page and returns its value, written as a string.
func (p *page) eval(expression string) (string, error) {
	var answer struct {
		Result           struct{ Value any }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	err := p.try(&answer, "Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true})
	if err != nil {
		return "", err
	}
	if e := answer.ExceptionDetails; e != nil {
		return "", errors.New(e.Text + " " + e.Exception.Description)
	}
	return fmt.Sprint(answer.Result.Value), nil
}

// until polls an expression until it is "true": what a page does cannot be awaited from outside.
func (p *page) until(ctx context.Context, expression string) {
	p.t.Helper()
	p.poll(ctx, expression, func() bool { return false })
}

// poll does that, and returns false as soon as it is in vain.
func (p *page) poll(ctx context.Context, expression string, vain func() bool) bool {
	p.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last := ""
	for {
		got, err := p.eval(expression)
		if got == "true" {
			return true
		}
		if vain() {
			return false
		}
		last = fmt.Sprint(got, " ", err)
		select {
		case <-tick.C:
		case <-ctx.Done():
			where, _ := p.eval("location.href")
			p.t.Fatalf("%s was never true on %s: %s", expression, where, last)
		}
	}
}

// press sends keys, such as "a" or "Enter", to what has the focus.
func (p *page) press(keys ...string) {
	p.t.Helper()
	for _, key := range keys {
		event := map[string]any{"key": key, "text": key}
		if key == "Enter" {
			event = map[string]any{"key": key, "text": "\r", "code": key, "windowsVirtualKeyCode": 13}
		}
		for _, kind := range []string{"keyDown", "keyUp"} {
			event["type"] = kind
			p.call(nil, "Input.dispatchKeyEvent", event)
			delete(event, "text")
		}
	}
}

// screenshot is what the page looks like. Where E2E_PICTURES names a directory it is kept there, to be looked at.
func (p *page) screenshot(name string) image.Image {
	p.t.Helper()
	var shot struct{ Data string }
	p.call(&shot, "Page.captureScreenshot", map[string]any{"format": "png"})
	data, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		p.t.Fatal(err)
	}
	if dir := os.Getenv("E2E_PICTURES"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, strings.ReplaceAll(name, "/", "-")+".png"), data, 0o644); err != nil {
			p.t.Error(err)
		}
	}
	return picture
}

// colours counts how many pixels of picture have each colour.
func colours(picture image.Image) map[[3]uint8]int {
	found := map[[3]uint8]int{}
	b := picture.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			r, g, b, _ := picture.At(x, y).RGBA()
			found[[3]uint8{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8)}]++
		}
	}
	return found
}
