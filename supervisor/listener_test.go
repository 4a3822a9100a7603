package supervisor

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/inpod/inpod/supervisor/ini"
)

// goodListener is an event listener that appends what it hears to the file $1 and answers $2.
const goodListener = `#!/bin/sh
while :; do
	printf 'READY\n'
	read -r header || exit 0
	len=${header##*len:}
	len=${len%% *}
	payload=$(dd bs=1 count=$len 2>/dev/null; echo .)
	printf '%s|%s\n' "$header" "${payload%.}" >> $1
	printf 'RESULT %d\n%s' ${#2} "$2"
done
`

func withScript(name, text string) func(*Options) {
	return func(o *Options) {
		if err := os.WriteFile(filepath.Join(filepath.Dir(o.Config.Files[0]), name), []byte(text), 0o755); err != nil {
			panic(err)
		}
	}
}

func TestListenerHearsEverything(t *testing.T) {
	b := start(t, `
[supervisord]
identifier=me
[eventlistener:ears]
command=/bin/sh DIR/listen DIR/heard OK
events=EVENT
buffer_size=100
startsecs=0
[program:talker]
command=/bin/sh -c 'read line; printf "a<!--XSUPERVISOR:BEGIN-->inner<!--XSUPERVISOR:END-->b"; printf oops >&2; exit 3'
stdout_events_enabled=true
stderr_events_enabled=true
stdout_capture_maxbytes=1000
startsecs=0
autorestart=false
`, withScript("listen", goodListener))
	b.awaitState("talker", Running)
	pid := b.snap("talker").pid
	if err := b.SendCommEvent("greeting", "hello world"); err != nil {
		t.Fatal(err)
	}
	if err := b.SendStdin("talker", "go\n"); err != nil {
		t.Fatal(err)
	}
	b.awaitState("talker", Exited)
	at := fmt.Sprintf("processname:talker groupname:talker pid:%d", pid)
	want := []string{
		"SUPERVISOR_STATE_CHANGE_RUNNING|", "PROCESS_GROUP_ADDED|groupname:ears\n", "PROCESS_GROUP_ADDED|groupname:talker\n",
		"PROCESS_STATE_STARTING|processname:ears groupname:ears from_state:STOPPED tries:0",
		"PROCESS_STATE_STARTING|processname:talker groupname:talker from_state:STOPPED tries:0",
		fmt.Sprintf("PROCESS_STATE_RUNNING|processname:talker groupname:talker from_state:STARTING pid:%d", pid),
		fmt.Sprintf("PROCESS_STATE_EXITED|processname:talker groupname:talker from_state:RUNNING expected:0 pid:%d", pid),
		"REMOTE_COMMUNICATION|type:greeting\nhello world",
		"PROCESS_LOG_STDOUT|" + at + " channel:stdout\na", "PROCESS_LOG_STDOUT|" + at + " channel:stdout\nb",
		"PROCESS_LOG_STDERR|" + at + " channel:stderr\noops", "PROCESS_COMMUNICATION_STDOUT|" + at + "\ninner",
	}
	var missing string
	heard := func() bool {
		got := heardEvents(b.read("heard"))
		missing = ""
		for _, w := range want {
			if !slices.Contains(got, w) {
				missing += fmt.Sprintf("%q\n", w)
			}
		}
		return missing == ""
	}
	defer func() {
		if missing != "" {
			t.Logf("missing:\n%sheard: %q", missing, b.read("heard"))
		}
	}()
	b.eventually("all events are heard", heard)
	first, _, _ := strings.Cut(b.read("heard"), "\n")
	if want := "ver:3.0 server:me serial:0 pool:ears poolserial:0 eventname:PROCESS_GROUP_ADDED len:15|groupname:ears"; first != want {
		t.Errorf("the first event is %q, want %q", first, want)
	}
}

// heardEvents makes "NAME|payload" of what goodListener wrote.
func heardEvents(text string) (events []string) {
	for _, part := range strings.Split(text, "ver:3.0 ")[1:] {
		header, payload, _ := strings.Cut(part, "|")
		_, name, _ := strings.Cut(header, "eventname:")
		name, _, _ = strings.Cut(name, " ")
		events = append(events, name+"|"+strings.TrimSuffix(payload, "\n"))
	}
	return events
}

func TestListenerThatCrashesGetsTheEventAgain(t *testing.T) {
	b := start(t, `
[eventlistener:ears]
command=/bin/sh DIR/listen
events=REMOTE_COMMUNICATION
startsecs=0
autorestart=true
`, withScript("listen", `#!/bin/sh
printf 'READY\n'
read -r header
echo "$header" >> `+"DIRNAME"+`
exit 1
`), func(o *Options) {
		dir := filepath.Dir(o.Config.Files[0])
		script := filepath.Join(dir, "listen")
		text, _ := os.ReadFile(script)
		_ = os.WriteFile(script, []byte(strings.ReplaceAll(string(text), "DIRNAME", dir+"/heard")), 0o755)
	})
	b.awaitState("ears", Running)
	_ = b.SendCommEvent("a", "b")
	b.eventually("the event was sent twice", func() bool { return strings.Count(b.read("heard"), "serial:0 ") >= 4 })
}

// testPool is a pool whose listeners are pipes that the test reads.
func testPool(t *testing.T, size, members int) (*pool, *bus, []*os.File) {
	t.Helper()
	b := newBus(slog.New(slog.DiscardHandler), "supervisor")
	g := &ini.Group{Name: "ears", Events: []string{"TICK", "REMOTE_COMMUNICATION"}, BufferSize: size}
	for i := range members {
		g.Programs = append(g.Programs, ini.Program{Name: itoa(i)})
	}
	p := newPool(b, b.log, g)
	b.add(p)
	var ends []*os.File
	for _, l := range p.members {
		in, child, err := newStdin()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.close(); child.Close() })
		p.spawned(l, in)
		p.changed(l, Running)
		ends = append(ends, child)
	}
	return p, b, ends
}

func hear(t *testing.T, f *os.File) string {
	t.Helper()
	buf := make([]byte, 4096)
	n, err := f.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func remote(b *bus, data string) { b.notify(evRemote, func() string { return data }) }

func envelope(serial int, data string) string {
	return fmt.Sprintf("ver:3.0 server:supervisor serial:%d pool:ears poolserial:%d eventname:REMOTE_COMMUNICATION len:%d\n%s",
		serial, serial, len([]rune(data)), data)
}

func TestPoolSharesEvents(t *testing.T) {
	p, b, ends := testPool(t, 10, 2)
	p.output(p.members[0], []byte("REA"))
	p.output(p.members[0], []byte("DY\n"))
	p.output(p.members[1], []byte("READY\n"))
	remote(b, "one")
	remote(b, "zwö")
	remote(b, "three")
	if got, want := hear(t, ends[0]), envelope(0, "one"); got != want {
		t.Errorf("the first heard %q, want %q", got, want)
	}
	if got, want := hear(t, ends[1]), envelope(1, "zwö"); got != want {
		t.Errorf("the second heard %q, want %q", got, want)
	}
	p.output(p.members[1], []byte("RESULT 2\nOKREADY\n"))
	if got, want := hear(t, ends[1]), envelope(2, "three"); got != want {
		t.Errorf("the second heard %q, want %q", got, want)
	}
}

func TestPoolRebuffersWhatFailed(t *testing.T) {
	p, b, ends := testPool(t, 10, 1)
	p.output(p.members[0], []byte("READY\n"))
	remote(b, "one")
	remote(b, "two")
	hear(t, ends[0])
	p.output(p.members[0], []byte("RESULT 4\nFAIL"))
	if s := p.members[0].state; s != acknowledged {
		t.Errorf("the listener is %v, want ACKNOWLEDGED", s)
	}
	p.output(p.members[0], []byte("READY\n"))
	if got, want := hear(t, ends[0]), envelope(0, "one"); got != want {
		t.Errorf("it heard %q, want the same event again: %q", got, want)
	}
}

func TestPoolDropsTheOldest(t *testing.T) {
	p, b, ends := testPool(t, 2, 1)
	for _, data := range []string{"one", "two", "three"} {
		remote(b, data)
	}
	p.output(p.members[0], []byte("READY\n"))
	if got, want := hear(t, ends[0]), envelope(1, "two"); got != want {
		t.Errorf("it heard %q, want %q", got, want)
	}
}

func TestPoolGivesUpOnGarbage(t *testing.T) {
	for name, test := range map[string]struct {
		said string
		want listenerState
	}{
		"no READY":            {"hello world\n", unknown},
		"chatter while READY": {"READY\nx", unknown},
		"short":               {"REA", acknowledged},
	} {
		t.Run(name, func(t *testing.T) {
			p, b, _ := testPool(t, 10, 1)
			p.output(p.members[0], []byte(test.said))
			if got := p.members[0].state; got != test.want {
				t.Errorf("the listener is %v, want %v", got, test.want)
			}
			remote(b, "kept")
			if len(p.buffer) != 1 {
				t.Errorf("%d events wait, want 1", len(p.buffer))
			}
		})
	}
	for name, said := range map[string]string{"bad result": "RESULT x\n", "negative": "RESULT -1\n", "no number": "READY\n"} {
		t.Run(name, func(t *testing.T) {
			p, b, ends := testPool(t, 10, 1)
			p.output(p.members[0], []byte("READY\n"))
			remote(b, "one")
			hear(t, ends[0])
			p.output(p.members[0], []byte(said))
			if got := p.members[0].state; got != unknown {
				t.Errorf("the listener is %v, want UNKNOWN", got)
			}
			if len(p.buffer) != 1 || p.buffer[0].payload != "one" {
				t.Errorf("%v wait, want the event that it had", p.buffer)
			}
		})
	}
}

func TestSubscribed(t *testing.T) {
	for _, test := range []struct {
		want, typ string
		ok        bool
	}{
		{"EVENT", "TICK_5", true},
		{"TICK", "TICK_5", true},
		{"TICK_5", "TICK_5", true},
		{"TICK_60", "TICK_5", false},
		{"TICK_5", "TICK_60", false},
		{"PROCESS_STATE", "PROCESS_STATE_FATAL", true},
		{"PROCESS_LOG", "PROCESS_LOG_STDERR", true},
		{"PROCESS_COMMUNICATION", "PROCESS_LOG_STDERR", false},
		{"SUPERVISOR_STATE_CHANGE", evRunning, true},
		{"PROCESS_GROUP", evGroupAdded, true},
	} {
		if got := subscribed(test.want, test.typ); got != test.ok {
			t.Errorf("subscribed(%q, %q) = %v, want %v", test.want, test.typ, got, test.ok)
		}
	}
}

func TestPyText(t *testing.T) {
	for in, want := range map[string]string{
		"plain\n": "plain\n", "hällo": "hällo", "\xff\n'": `Undecodable: b"\xff\n'"`, "\xffé\\": `Undecodable: b'\xff\xc3\xa9\\'`,
	} {
		if got := pyText([]byte(in)); got != want {
			t.Errorf("pyText(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzListener feeds what a listener may say, in two pieces, to the protocol: whatever it is, no event may get lost.
func FuzzListener(f *testing.F) {
	for _, seed := range []string{"READY\n", "READY\nRESULT 2\nOKREADY\n", "RESULT 99999999999999999999\n", "READY\nRESULT -1\n", "\x00", "READY\nRESULT 4\nFAIL"} {
		f.Add([]byte(seed), 3)
	}
	f.Fuzz(func(t *testing.T, said []byte, cut int) {
		p, b, _ := testPool(t, 10, 1)
		remote(b, "one")
		l := p.members[0]
		cut = max(0, min(cut, len(said)))
		p.output(l, said[:cut])
		p.output(l, said[cut:])
		held := len(p.buffer)
		if l.event != nil {
			held++
		}
		if held == 0 && !strings.Contains(string(said), "OK") {
			t.Errorf("the event is lost after %q", said)
		}
		if len(l.out) > len(said) {
			t.Errorf("%d bytes are kept of %d", len(l.out), len(said))
		}
	})
}
