package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

// bareImage is a root directory with hardly anything in it.
type bareImage struct {
	name   string
	passwd string // "" = there is no /etc; %s is the uid
	shell  bool   // there is /bin/sh, and nothing that it could run
}

var bareImages = []bareImage{
	{"nothing", "", false},
	{"the user is not in passwd", "somebody:x:4242:4242::/:/bin/sh\n", false},
	{"the user's shell is not there", "app:x:%s:%s::/data:/bin/bash\ndaemon:x:1:1::/data:/bin/sh\n", false},
	{"a shell", "", true},
}

// bareScript makes the root in a tmpfs, enters it, gives up every right that is not needed and becomes inpod. What the
// change of the root itself needs is left to a plain user, in its own namespace.
const bareScript = `set -e
mount -t tmpfs -o mode=755,size=300M tmpfs "$ROOT"
cd "$ROOT"
mkdir proc dev data
cp -r "$PARTS"/. "$ROOT"
mount -t proc proc proc
mount --rbind /dev dev
chown -R "$OWNER" data host
cd /
exec `

// startBare is an agent in such a root, as PID 1 and as this user: without files of its own in /etc, it has the name of its
// number.
func startBare(t *testing.T, image bareImage, uid int) *sshSide {
	t.Helper()
	s := prepareSSH(t, "")
	own := fmt.Sprint(uid)
	s.user = own
	switch {
	case strings.Contains(image.passwd, "%s"):
		s.user = "app"
	case uid == 0:
		s.user = "root"
	}
	s.home = "/data"
	s.write("client/config", "Host box\n User "+s.user+"\n"+s.read(t, s.conf))
	s.write("parts/authorized", s.read(t, s.key+".pub"))
	if image.passwd != "" {
		s.write("parts/etc/passwd", strings.ReplaceAll(image.passwd, "%s", own))
	}
	parts := []string{bins.Inpod, bins.Prog}
	if image.shell {
		libs, err := filepath.EvalSymlinks("/bin/dash")
		if err != nil {
			t.Fatal(err)
		}
		s.must(t, "", "mkdir", "-p", s.path("parts/bin"))
		s.must(t, "", "cp", libs, s.path("parts/bin/sh"))
		for _, f := range strings.Fields(s.must(t, "", "ldd", libs)) {
			if strings.HasPrefix(f, "/") { // the libraries and the loader, where they are looked for
				s.must(t, "", "mkdir", "-p", s.path("parts"+filepath.Dir(f)))
				s.must(t, "", "cp", "-L", f, s.path("parts"+f))
			}
		}
	}
	s.must(t, "", append(append([]string{"cp", "-r", s.path("host")}, parts...), s.path("parts"))...)
	s.must(t, "", "mkdir", s.path("root"))
	enter := `setpriv --inh-caps=-all,+sys_chroot --ambient-caps=-all,+sys_chroot --bounding-set=-all,+sys_chroot chroot "$ROOT" /inpod run`
	if os.Getuid() == 0 {
		enter = `chroot "$ROOT" /inpod run`
		if uid != 0 {
			enter = strings.Replace(chrootCommand(), "54321:54321", own+":"+own, 1)
		}
	}
	wrap := mounted(t, bareScript+enter, "-pf")
	s.env = append(withoutVar(withoutVar(s.env, "INPOD_ADMIN_SOCKET"), "HOME"), "ROOT="+s.path("root"), "PARTS="+s.path("parts"),
		"OWNER="+own, "HOME=/data", "INPOD_SUPERVISOR_INCLUDE=[]", "INPOD_SSH_HOST_KEY_DIR=/host", "INPOD_SSH_AUTHORIZED_KEYS=[/authorized]")
	d, err := lab.Start(s.dir, s.env, wrap...)
	if err != nil {
		t.Fatal(err)
	}
	s.d = d
	t.Cleanup(func() {
		d.Kill()
		if out := d.Output(); t.Failed() || strings.Contains(out, "panic") {
			t.Errorf("the agent says:\n%s", tailOf(out, 4000))
		}
	})
	s.until("the agent answers", func() bool { code, _ := s.get("/livez"); return code == http.StatusOK || d.Exited() })
	if d.Exited() || !s.says(`"ssh is on"`) || !s.says(`"made a host key"`, "ed25519") {
		t.Fatalf("the agent does not serve ssh: %s", d.WaitExit(0))
	}
	return s
}

// Images without a shell, scp, sftp-server, /etc/passwd or the user in it, as root and as a user without rights.
func TestSSHBareRoots(t *testing.T) {
	t.Parallel()
	uids := []int{os.Getuid()}
	if uids[0] == 0 {
		uids = append(uids, 54321)
	}
	for _, image := range bareImages {
		for _, uid := range uids {
			t.Run(fmt.Sprintf("%s, %d", image.name, uid), func(t *testing.T) {
				t.Parallel()
				s := startBare(t, image, uid)
				bareFiles(t, s)
				if image.shell {
					bareShell(t, s)
				} else {
					bareCommands(t, s)
				}
				if uid == 0 && s.user == "app" {
					bareOther(t, s)
				}
				init := s.init()
				if !lab.Until(patience, func() bool { return len(zombiesBelow(init)) == 0 }) {
					t.Errorf("zombies: %v", describe(zombiesBelow(init)))
				}
				if err := syscall.Kill(init, syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				s.wantExit("exit 0")
			})
		}
	}
}

// bareFiles moves files by every way that needs nothing on the other side.
func bareFiles(t *testing.T, s *sshSide) {
	src := s.tree(t, "src")
	got := func(name string) string { return filepath.Join(s.client, name) }
	out := s.must(t, "pwd\nput -rp "+src+" sftp\nget -rp sftp "+got("sftp")+"\nget -rp /data/sftp "+got("absolute")+"\n", "sftp", "-F", s.conf, "-b", "-", "box")
	if !strings.Contains(out, "directory: /data\n") {
		t.Errorf("it begins elsewhere: %s", out)
	}
	sameTree(t, src, got("sftp"), true)
	sameTree(t, src, got("absolute"), true)
	for _, protocol := range []string{"-O", "-s"} {
		s.must(t, "", "scp", "-F", s.conf, protocol, "-rpq", src, "box:scp"+protocol)
		s.must(t, "", "scp", "-F", s.conf, protocol, "-rpq", "box:scp"+protocol, got("scp"+protocol))
		sameTree(t, src, got("scp"+protocol), true)
		if e := s.run(t, "", "scp", "-F", s.conf, protocol, "box:nothing", got("none")); e.code == 0 || !strings.Contains(e.errs, "No such file") {
			t.Errorf("%s: a file that is not there: %+v", protocol, e)
		}
	}
	if out := s.must(t, "df -h /data\n", "sftp", "-F", s.conf, "-b", "-", "box"); !regexp.MustCompile(`\n +300MB +\S+MB +2\S+MB +2\S+MB +\d+%\n`).MatchString(out) {
		t.Errorf("df: %s", out)
	}
	t.Run("sshfs", func(t *testing.T) {
		s.sshfs(t, "box:", `
import os, sys
os.chdir(sys.argv[1])
with open("mounted", "wb") as f:
    f.write(b"through sshfs")
os.rename("mounted", "moved")
assert open("moved", "rb").read() == b"through sshfs" and "sftp" in os.listdir(".")
print("ok")
`)
	})
}

// bareCommands runs the programs of an image that has no shell.
func bareCommands(t *testing.T, s *sshSide) {
	for _, args := range [][]string{{"box"}, {"-tt", "box"}} {
		if e := s.run(t, "", s.ssh(args...)...); e.code != 127 || !strings.Contains(e.errs+e.out, "no shell") || !strings.Contains(e.errs+e.out, "sftp") {
			t.Errorf("%q: %+v", args, e)
		}
	}
	for command, want := range map[string]ended{
		"/inpod version":                 {code: 0},
		"/testprog exit 42":              {code: 42},
		`"/testprog" 'exit' 4'3'`:        {code: 43},
		"/testprog kill TERM":            {code: 255},
		"/bin/sh -c true":                {code: 127, errs: "no such file"},
		"nothing":                        {code: 127, errs: "nothing: command not found"},
		"/data":                          {code: 127, errs: "permission denied"},
		"rsync --server . x":             {code: 127, errs: "rsync: command not found"},
		"bash":                           {code: 127, errs: "bash: command not found"},
		"/testprog exit 3 && /inpod run": {code: 127, errs: "no shell"},
	} {
		e := s.run(t, "", s.ssh("box", command)...)
		if e.code != want.code || !strings.Contains(strings.ToLower(e.errs), want.errs) {
			t.Errorf("%s: got %+v, want %+v", command, e, want)
		}
	}
	version := s.must(t, "", bins.Inpod, "version")
	for _, args := range [][]string{{"box"}, {"-tt", "box"}} {
		if out := s.must(t, "", s.ssh(append(args, "/inpod version")...)...); strings.ReplaceAll(out, "\r", "") != version {
			t.Errorf("%q: got %q, want %q", args, out, version)
		}
	}
	if e := s.run(t, "GET /livez HTTP/1.0\r\n\r\n", s.ssh("-W", strings.TrimPrefix(s.admin, "http://"), "box")...); !strings.Contains(e.out, "200 OK") {
		t.Errorf("-W: %+v", e)
	}
}

func bareShell(t *testing.T, s *sshSide) {
	if e := s.run(t, "x", s.ssh("box", `read x; echo "$x $HOME $USER $PWD"; exit 3`)...); e.code != 3 || e.out != "x /data "+s.user+" /data\n" {
		t.Errorf("%+v", e)
	}
	login := func() string {
		t.Helper()
		term := openTerminal(t, s.client, s.clientEnv("TERM=xterm"), 24, 80, s.ssh("box")...)
		term.untilSeen("Memory")
		term.press("echo lo''gin $0; exit 7\r")
		term.untilSeen("login -sh")
		<-term.done
		if code := term.cmd.ProcessState.ExitCode(); code != 7 {
			t.Errorf("code %d, want 7", code)
		}
		return term.screen.String()
	}
	screen := login()
	// A login waits a second for the disks, which may take longer on a busy machine.
	for try := 0; try < 4 && !strings.Contains(screen, "Disks   "); try++ {
		screen = login()
	}
	if !regexp.MustCompile(`Disks   / +300 MiB, \d+ % in use\r\n`).MatchString(screen) {
		t.Errorf("the disk of the container is not shown: %q", screen)
	}
}

// bareOther is another user than the agent's, whose shell is not there either.
func bareOther(t *testing.T, s *sshSide) {
	if out := s.must(t, "", s.ssh("other", "/inpod version")...); out == "" {
		t.Error("no version")
	}
	if e := s.run(t, "put config /data/config\n", "sftp", "-F", s.conf, "-b", "-", "other"); e.code == 0 || !strings.Contains(e.errs, "Permission denied") {
		t.Errorf("where only root may write: %+v", e)
	}
	s.must(t, "chmod 777 /data\n", "sftp", "-F", s.conf, "-b", "-", "box")
	s.must(t, "", "scp", "-F", s.conf, "-O", s.conf, "other:theirs")
	if out := s.must(t, "ls -ln theirs\n", "sftp", "-F", s.conf, "-b", "-", "other"); !strings.Contains(out, " 1 ") {
		t.Errorf("whose is it? %s", out)
	}
}
