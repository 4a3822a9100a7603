//go:build images

package images

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	homepodPassword = "correct-horse"
	homepodColours  = 200 // that a desktop with a picture and windows has at least; an empty display has one
)

// One desktop in a network that leads nowhere: no DNS, no route. The subtests build on each other.
func TestHomepod(t *testing.T) {
	t.Parallel()
	image := build(t, "homepod")
	c := start(t, image, "--network", network(t), "--shm-size", "256m", "-e", "DEEPVAC_USER=ada", "-e", "DEEPVAC_PASSWORD="+homepodPassword,
		"-e", "PUID=4711", "-e", "PGID=4712", "-e", "VNC_GEOMETRY=1280x800")
	c.ready()
	t.Run("user", func(t *testing.T) {
		if got := c.exec("id", "ada"); got != "uid=4711(ada) gid=4712(ada) groups=4712(ada)" {
			t.Errorf("id: got %s", got)
		}
		if got := c.exec("sh", "-c", "ps -o user= -C Xvnc,icewm,xterm | sort | uniq -c"); strings.Fields(got)[0] != "3" || !strings.HasSuffix(got, " ada") {
			t.Errorf("the desktop's processes run as: %s", got)
		}
		if out, code := c.try("--user=ada", "sh", "-c", "echo "+homepodPassword+" | sudo -S id -u"); code != 0 || !strings.HasSuffix(out, "0") {
			t.Errorf("sudo with the password: %d %s", code, out)
		}
		if out, code := c.try("--user=ada", "sh", "-c", "echo wrong | sudo -k -S id -u"); code == 0 {
			t.Errorf("sudo with a wrong password: %s", out)
		}
		if out, code := c.passwordSSH("ada", "id -un; pwd"); code != 0 || out != "ada\n/home/ada" {
			t.Errorf("ssh: %d %s", code, out)
		}
	})
	t.Run("order", func(t *testing.T) {
		// Each program is spawned after the one before it is ready, or running where it has no check.
		want := []string{"spawned xvnc", "readiness changed xvnc", "spawned novnc", "readiness changed novnc", "spawned desktop", "running desktop", "spawned terminal"}
		if got := happened(c.logs(), want); !slices.Equal(got, want) {
			t.Errorf("got the order %q, want %q", got, want)
		}
	})
	t.Run("page", func(t *testing.T) { testHomepodPage(t, c) })
	t.Run("vnc through ssh", func(t *testing.T) { testHomepodVNC(t, c) })
	t.Run("display killed", func(t *testing.T) {
		c.exec("pkill", "-9", "-x", "Xvnc")
		await(t, "all programs to run again", func() bool {
			status := c.ctl("status")
			return strings.Count(status, "RUNNING") == 4 && c.metric(`inpod_program_restarts_total{group="xvnc",program="xvnc"}`) == "1"
		})
		await(t, "the desktop", func() bool { v := c.directVNC(); return v != nil && v.many(homepodColours) })
		c.ready()
	})
	t.Run("page server hangs", func(t *testing.T) {
		c.exec("pkill", "-STOP", "-f", "websockify")
		if code, _ := c.get(9880, "/livez"); code != 200 {
			t.Errorf("/livez: %d; a tool that hangs must not kill the desktop", code)
		}
		c.exec("pkill", "-CONT", "-f", "websockify")
		if code, _ := c.get(7030, "/vnc.html"); code != 200 {
			t.Errorf("the page: %d", code)
		}
	})
	t.Run("restart", func(t *testing.T) {
		if code, took := c.stop(30 * time.Second); code != 0 || took > 15*time.Second {
			t.Errorf("docker stop: exit code %d after %s", code, took)
		}
		c.restart()
		c.ready()
		if got := c.exec("sh", "-c", "id -u ada; grep -c ^ada: /etc/passwd"); got != "4711\n1" {
			t.Errorf("the user after a restart: %s", got)
		}
		await(t, "the desktop", func() bool { v := c.directVNC(); return v != nil && v.many(homepodColours) })
	})
}

// passwordSSH runs a command as a user who has nothing but the password.
func (c *container) passwordSSH(user, command string, flags ...string) (string, int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sshpass", c.passwordArgs(user, command, flags...)...).CombinedOutput()
	return strings.TrimSuffix(string(out), "\n"), exitCode(c.t, err)
}

func (c *container) passwordArgs(user, command string, flags ...string) []string {
	args := slices.Concat([]string{
		"-p", homepodPassword, "ssh", "-F", "/dev/null", "-o", "PubkeyAuthentication=no", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ExitOnForwardFailure=yes",
	}, flags, []string{user + "@" + c.ip})
	if command != "" {
		args = append(args, command)
	}
	return args
}

// happened returns those of the wanted events, as "message program", that the log has, each once, in its order.
func happened(log string, wanted []string) (found []string) {
	for line := range strings.Lines(log) {
		var record struct{ Msg, Program string }
		if json.Unmarshal([]byte(line), &record) != nil {
			continue
		}
		event := record.Msg + " " + record.Program
		if slices.Contains(wanted, event) && !slices.Contains(found, event) {
			found = append(found, event)
		}
	}
	return found
}

// testHomepodPage opens the desktop in a browser, and types into the terminal on it.
func testHomepodPage(t *testing.T, c *container) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := openPage(t, ctx)
	// Without a password the page asks for it.
	p.load(ctx, c.url(7030, "/"), `!!document.querySelector("#noVNC_credentials_dlg.noVNC_open")`)
	p.load(ctx, c.url(7030, "/#password="+homepodPassword), `document.documentElement.classList.contains("noVNC_connected")`)
	await(t, "the desktop on the page", func() bool { return len(colours(p.screenshot("homepod"))) > homepodColours })
	// xterm opened with the focus. What is typed goes from the browser through route, WebSocket and VNC to its shell.
	p.until(ctx, `document.querySelector("canvas").focus(), document.activeElement.tagName == "CANVAS"`)
	for _, key := range "id -un >/tmp/typed" {
		p.press(string(key))
	}
	p.press("Enter")
	await(t, "what was typed", func() bool { out, code := c.try("cat", "/tmp/typed"); return code == 0 && out == "ada" })
	p.screenshot("homepod")
}

// testHomepodVNC looks at the desktop with a VNC client through ssh -L, while the window manager dies.
func testHomepodVNC(t *testing.T, c *container) {
	local := freePort(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tunnel := exec.CommandContext(ctx, "sshpass", c.passwordArgs("ada", "", "-N", "-L", fmt.Sprintf("127.0.0.1:%d:127.0.0.1:5900", local))...)
	if err := tunnel.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = tunnel.Wait() }()
	var v *vnc
	await(t, "VNC through ssh -L", func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", local))
		if err != nil {
			return false
		}
		if v, err = openVNC(conn, homepodPassword); err != nil {
			t.Fatal(err)
		}
		return true
	})
	defer v.Close()
	_ = v.SetDeadline(time.Now().Add(patience))
	if v.width*v.height < 640*480 || !strings.Contains(v.name, "ada") {
		t.Errorf("the display is %q, %d by %d", v.name, v.width, v.height)
	}
	if !v.many(homepodColours) {
		t.Error("the display through ssh -L is empty")
	}

	display, pid := c.exec("pgrep", "-x", "Xvnc"), c.exec("pgrep", "-x", "icewm")
	began := c.inspect("{{.State.StartedAt}}")
	c.exec("pkill", "-9", "-x", "icewm")
	await(t, "another window manager", func() bool {
		out, code := c.try("pgrep", "-x", "icewm")
		return code == 0 && out != pid
	})
	if got := c.exec("pgrep", "-x", "Xvnc"); got != display {
		t.Errorf("Xvnc is process %s, was %s", got, display)
	}
	if c.inspect("{{.State.StartedAt}}") != began {
		t.Error("the container was started again")
	}
	await(t, "the desktop, on the same connection", func() bool { return v.many(homepodColours) })

	// The desktop's user is not to leave the container, nor to let others in.
	for _, flags := range [][]string{{"-W", "203.0.113.1:80"}, {"-N", "-R", "0.0.0.0:8888:127.0.0.1:80"}} {
		if out, code := c.passwordSSH("ada", "", flags...); code == 0 || code == 124 {
			t.Errorf("ssh %q: exit code %d %s, want it refused", flags, code, out)
		}
	}
}

// many tells whether the display shows more than so many colours.
func (v *vnc) many(n int) bool {
	picture, err := v.picture()
	return err == nil && len(colours(picture)) > n
}

// directVNC connects to port 5900, or returns nil.
func (c *container) directVNC() *vnc {
	conn, err := net.DialTimeout("tcp", c.addr(5900), time.Second)
	if err != nil {
		return nil
	}
	c.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	v, err := openVNC(conn, homepodPassword)
	if err != nil {
		return nil
	}
	return v
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Without a password the desktop runs and nobody gets in.
func TestHomepodWithoutPassword(t *testing.T) {
	t.Parallel()
	image := build(t, "homepod")
	c := start(t, image)
	c.ready()
	for _, password := range []string{"", "homepod", "123456", "password"} {
		conn, err := net.Dial("tcp", c.addr(5900))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := openVNC(conn, password); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("VNC with the password %q: got %v, want it refused", password, err)
		}
		conn.Close()
	}
	if out, code := c.passwordSSH("homepod", "id"); code == 0 {
		t.Errorf("ssh with a password: %s", out)
	}
	verify(t, "homepod", image)
}

// With no network interface but the loopback.
func TestHomepodNoNetwork(t *testing.T) {
	t.Parallel()
	c := start(t, build(t, "homepod"), "--network", "none", "-e", "DEEPVAC_PASSWORD="+homepodPassword)
	c.exec("inpod", "ready", "--wait")
	await(t, "the page", func() bool {
		_, code := c.try("python3", "-c", "import urllib.request as u; assert b'HomePod' in u.urlopen('http://127.0.0.1:7030/', timeout=20).read()")
		return code == 0
	})
}
