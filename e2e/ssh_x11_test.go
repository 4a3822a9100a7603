package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

// xServer is an X server of the client's, and what its clients need in their environment.
func (s *sshSide) xServer(t *testing.T) []string {
	t.Helper()
	const cookie = "00112233445566778899aabbccddeeff"
	s.must(t, "", "xauth", "-q", "-f", s.path("client/xserver"), "add", ":0", ".", cookie)
	s.background(t, "sh", "-c", "exec Xvfb -noreset -displayfd 3 -screen 0 640x480x24 -nolisten tcp -auth xserver 3>number")
	var display string
	if !lab.Until(patience, func() bool {
		number, _ := os.ReadFile(s.path("client/number"))
		display = ":" + strings.TrimSpace(string(number))
		return strings.HasSuffix(string(number), "\n")
	}) {
		t.Fatal("Xvfb does not come up")
	}
	s.must(t, "", "xauth", "-q", "-f", s.path("client/xclient"), "add", display, ".", cookie)
	return []string{"DISPLAY=" + display, "XAUTHORITY=" + s.path("client/xclient")}
}

// A window of a program in the container is on the client's screen, for as long as the session lasts and for nobody else.
func TestSSHX11(t *testing.T) {
	t.Parallel()
	s := startSSH(t, "")
	screen := s.xServer(t)
	run := func(s *sshSide, args ...string) ended {
		cmd := s.command(t.Context(), s.ssh(args...)...)
		cmd.Env = s.clientEnv(screen...)
		return s.finish(t, "", cmd)
	}
	files := regexp.MustCompile(`(?m)^(600|700) \S+ (/\S+)$`)
	for _, host := range s.hosts() {
		for _, how := range []string{"-X", "-Y"} {
			e := run(s, how, host, `stat -c '%a %U %n' "$XAUTHORITY" "$(dirname "$XAUTHORITY")" && xdpyinfo && xwininfo -root && exit 4`)
			if e.code != 4 || !strings.Contains(e.out, "name of display:    localhost:1") || !strings.Contains(e.out, "-geometry 640x480+0+0") {
				t.Errorf("%s %s: %+v", how, host, e)
			}
			made := files.FindAllStringSubmatch(e.out, -1)
			if len(made) != 2 {
				t.Errorf("%s %s: the cookie can be read by others: %s", how, host, e.out)
			}
			for _, m := range made {
				if !lab.Until(patience, func() bool { _, err := os.Stat(m[2]); return os.IsNotExist(err) }) {
					t.Errorf("%s %s: %s stays", how, host, m[2])
				}
			}
		}
		if e := run(s, "-Y", host, "XAUTHORITY=/dev/null xdpyinfo"); e.code == 0 {
			t.Errorf("%s: a client without the cookie: %+v", host, e)
		}
		if e := run(s, "-x", host, "echo $DISPLAY.$XAUTHORITY."); e.out != "..\n" {
			t.Errorf("%s: a session that did not ask for it: %+v", host, e)
		}
	}
	// Two at once have a display each; what is left of the first is nobody's.
	_, out, first := s.backgroundEnv(t, screen, s.ssh("-Y", "box", "echo $DISPLAY; exec sleep 1004")...)
	if !lab.Until(patience, func() bool { return strings.Contains(out.String(), "\n") }) {
		t.Fatal("no session")
	}
	display := strings.TrimSpace(out.String())
	if e := run(s, "-Y", "box", "echo $DISPLAY; xdpyinfo >/dev/null && exit 5"); e.code != 5 || strings.TrimSpace(e.out) == display {
		t.Errorf("a second session beside %s: %+v", display, e)
	}
	_ = first.Process.Kill()
	if !lab.Until(patience, func() bool { return run(s, "-x", "box", "xdpyinfo -display "+display).code != 0 }) {
		t.Errorf("%s stays", display)
	}
	t.Run("refused", func(t *testing.T) {
		closed := startSSH(t, "ssh: {x11_forward: false}")
		s.write("keys", "no-X11-forwarding "+s.read(t, s.key+".pub"))
		for _, side := range []*sshSide{closed, s} {
			if e := run(side, "-Y", "box", "echo $DISPLAY.$XAUTHORITY.; xdpyinfo"); e.code == 0 || !strings.HasPrefix(e.out, "..\n") {
				t.Errorf("%+v", e)
			}
		}
	})
}
