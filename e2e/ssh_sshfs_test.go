package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sshfsScript works in a mounted directory as people and their editors do. Its arguments are the mount and what is mounted, where
// that can be seen.
const sshfsScript = `
import errno, hashlib, mmap, os, subprocess, sys
mnt, served = sys.argv[1], sys.argv[2]
os.chdir(mnt)

def put(name, data, how="wb"):
    with open(name, how) as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())

def same(name, want):
    for d in (mnt, served):
        with open(os.path.join(d, name), "rb") as f:
            got = f.read()
        assert got == want, (d, name, got[:100], want[:100])

def fails(number, f, *args):
    try:
        f(*args)
    except OSError as e:
        assert e.errno == number, (f, args, e)
    else:
        raise SystemExit("%s %s: no error" % (f, args))

put("f", b"one\ntwo\n")
os.chmod("f", 0o640)
os.utime("f", (1000000000, 1000000001))
st = os.stat("f")
assert st.st_mode & 0o777 == 0o640 and st.st_mtime == 1000000001, st

# vi: a swap file, the old one out of the way, the new one written, the old one gone.
put(".f.swp", b"x" * 4096)
os.rename("f", "f~")
put("f", b"edited with vi\n")
os.chmod("f", 0o640)
os.unlink("f~")
os.unlink(".f.swp")
same("f", b"edited with vi\n")
# sed -i: another file, renamed over the old one.
subprocess.check_call(["sed", "-i", "s/vi/sed/", "f"])
same("f", b"edited with sed\n")

put("g", b"the other\n")
os.rename("g", "f")
same("f", b"the other\n")
os.truncate("f", 3)
same("f", b"the")
put("f", b" end", "ab")
same("f", b"the end")
os.truncate("f", 10)
same("f", b"the end\0\0\0")
with open("f", "r+b") as f:
    f.seek(4)
    f.write(b"middle")
    f.truncate()
same("f", b"the middle")

os.symlink("f", "soft")
assert os.readlink("soft") == "f" and os.path.islink("soft")
os.link("f", "hard")
put("hard", b"!", "ab")
os.unlink("f")
same("hard", b"the middle!")
fails(errno.ENOENT, open, "soft")

put("mapped", b"\0" * 100000)
with open("mapped", "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
    m[:5] = b"begin"
    m[70000:70003] = b"mid"
    m[-3:] = b"end"
    m.flush()
same("mapped", b"begin" + b"\0" * 69995 + b"mid" + b"\0" * 29994 + b"end")

big = os.urandom(8 << 20) + b"odd"
put("big", big)
subprocess.check_call(["cp", "big", "copy"])
same("copy", big)
with open("big", "rb") as f:
    for at in (7000000, 3, 4 << 20, 100):
        f.seek(at)
        assert f.read(1000) == big[at:at + 1000], at

os.mkdir("d", 0o700)
put("d/x", b"x")
fails(errno.ENOTEMPTY, os.rmdir, "d")
os.rename("d", "e")
fails(errno.ENOENT, os.stat, "d")
os.unlink("e/x")
os.rmdir("e")
fails(errno.EEXIST, lambda: os.close(os.open("big", os.O_CREAT | os.O_EXCL | os.O_WRONLY)))
fails(errno.ENOENT, os.unlink, "nothing")

names = os.listdir("many")
assert len(names) == len(set(names)) and len(names) == 3000, len(names)
there, here = os.statvfs(served), os.statvfs(mnt)
assert there.f_blocks * there.f_frsize == here.f_blocks * here.f_frsize, (there, here)
assert subprocess.check_output(["df", "--output=size", "-B1", mnt]).split()[1] == b"%d" % (there.f_blocks * there.f_frsize)
print("ok")
`

// sshfs mounts what is remote at a directory of the client's and runs a Python script there, whose arguments are the mount and more.
func (s *sshSide) sshfs(t *testing.T, remote, script string, more ...string) {
	t.Helper()
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Skipf("this machine lets this user have no FUSE: %v", err)
	} else {
		f.Close()
	}
	mnt, err := os.MkdirTemp(s.client, "mnt-")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Base(mnt) + ".py"
	s.write("client/"+file, script)
	// In a namespace of its own, the mount is gone with the last of its processes, whatever happens.
	shell := fmt.Sprintf(`sshfs -o ssh_command='ssh -F %s' -o max_conns=1 -o idmap=user '%s' '%s' || exit
python3 "$@"; code=$?
umount '%s' && exit $code`, s.conf, remote, mnt, mnt)
	argv := []string{"unshare", "-m", "sh", "-c", shell, "sh", filepath.Join(s.client, file), mnt}
	if os.Getuid() != 0 {
		argv[1] = "-Urm"
		if out, err := exec.Command("unshare", "-Urm", "/bin/true").CombinedOutput(); err != nil {
			t.Skipf("this kernel gives a plain user no namespaces: %s", out)
		}
	}
	argv = append(argv, more...)
	if out := s.must(t, "", argv...); out != "ok\n" {
		t.Errorf("got %q", out)
	}
	if list, err := os.ReadDir(mnt); err != nil || len(list) > 0 {
		t.Errorf("what was not mounted here is seen: %v, %v", list, err)
	}
}

// sshfs, as each user.
func TestSSHFS(t *testing.T) {
	t.Parallel()
	s := startSSH(t, "")
	for _, host := range s.hosts() {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			dir := s.there(host, "sshfs")
			s.must(t, "", s.ssh(host, "mkdir -p sshfs/many; cd sshfs/many; touch $(seq -f a_name_that_is_not_so_short_%g 3000)")...)
			if list, err := os.ReadDir(dir + "/many"); err != nil || len(list) != 3000 {
				t.Fatalf("%d files: %v", len(list), err)
			}
			s.sshfs(t, host+":sshfs", sshfsScript, dir)
			if got := s.must(t, "", "ls", dir); got != "big\ncopy\nhard\nmany\nmapped\nsoft\n" {
				t.Errorf("on the server: %s", got)
			}
			s.wantOwner(t, host, dir+"/big")
			if !strings.Contains(s.d.Output(), `"kind":"sftp"`) {
				t.Error("it is not logged")
			}
		})
	}
}
