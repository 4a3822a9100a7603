package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/inpod/inpod/e2e/lab"
)

const (
	openssh    = "OpenSSH"
	sshdBinary = "/usr/sbin/sshd"
	sameCipher = "aes128-gcm@openssh.com"
)

// sshParts are the measurements of the SSH server beside OpenSSH's, with OpenSSH's clients.
func sshParts() []part {
	return []part{
		{"ssh-get", "SSH: SFTP, one large file fetched", openssh, measureSSHGet},
		{"ssh-put", "SSH: SFTP, one large file sent", openssh, measureSSHPut},
		{"ssh-small", "SSH: SFTP, many files of 4 KiB", openssh, measureSSHSmall},
		{"ssh-parallel", "SSH: SFTP, four clients at once", openssh, measureSSHParallel},
		{"ssh-scp", "SSH: scp", openssh, measureSSHScp},
		{"ssh-rsync", "SSH: rsync", openssh, measureSSHRsync},
		{"ssh-exec", "SSH: a command over a connection that is there", openssh, measureSSHExec},
		{"ssh-login", "SSH: login and a command", openssh, measureSSHLogin},
		{"ssh-memory", "SSH: memory", openssh, measureSSHMemory},
		{"ssh-10gb", "SSH: 10 GB each way", openssh, measureSSHBig},
	}
}

// sshServer is a running SSH server.
type sshServer struct {
	name, port, user string
	dir              string // of its clients: the key is there
	daemon           *lab.Daemon
}

// sshServers is both, and a directory in memory for what is transferred.
type sshServers struct {
	all []*sshServer
	dir string
}

const sshdConf = `ListenAddress %[1]s
HostKey %[2]s/host
AuthorizedKeysFile %[2]s/key.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
MaxStartups 100
MaxSessions 100
Subsystem sftp /usr/lib/openssh/sftp-server
`

const inpodSSHConf = `
admin: {listen: "off", socket: "off"}
supervisor: {include: []}
ssh:
  listen: "%[1]s"
  host_key_dir: %[2]s/hostkeys
  authorized_keys: ["%[2]s/key.pub"]
  password_file: ""
`

// sshServers starts both servers, each on a port and with keys of its own.
func (b *bench) sshServers(ctx context.Context) (*sshServers, error) {
	s := &sshServers{}
	var err error
	// In memory, where it can be had: a disk would be what is measured.
	if s.dir, err = os.MkdirTemp("/dev/shm", "inpod-bench-"); err != nil {
		if s.dir, err = b.dir(); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{ours, openssh} {
		srv, err := b.sshServer(ctx, name)
		if err != nil {
			s.stop()
			return nil, err
		}
		s.all = append(s.all, srv)
	}
	return s, nil
}

// inTurn is the servers in another order each round: what comes second is at no advantage.
func (s *sshServers) inTurn(round int) []*sshServer {
	list := slices.Clone(s.all)
	if round%2 == 1 {
		slices.Reverse(list)
	}
	return list
}

func (s *sshServers) stop() {
	for _, srv := range s.all {
		srv.daemon.Kill()
		_ = os.RemoveAll(srv.dir)
	}
	_ = os.RemoveAll(s.dir)
}

func (b *bench) sshServer(ctx context.Context, name string) (*sshServer, error) {
	dir, err := b.dir()
	if err != nil {
		return nil, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("cannot find out who I am: %w", err)
	}
	for _, k := range []string{"key", "host"} {
		cmd := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, k))
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("cannot make a key: %w: %s", err, out)
		}
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	_, port, _ := strings.Cut(addr, ":")
	conf := filepath.Join(dir, "conf")
	text, argv := fmt.Sprintf(inpodSSHConf, addr, dir), []string{b.bins.Inpod, "run", "--config", conf}
	if name == openssh {
		text, argv = fmt.Sprintf(sshdConf, addr, dir), []string{sshdBinary, "-D", "-e", "-f", conf}
		if os.Getuid() == 0 {
			if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
				return nil, fmt.Errorf("cannot make sshd's directory: %w", err)
			}
		}
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write the configuration of %s: %w", name, err)
	}
	if argv, err = plainHome(dir, argv); err != nil {
		return nil, err
	}
	srv := &sshServer{name: name, port: port, user: me.Username, dir: dir}
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir, "LANG=C.UTF-8"}
	// Its log is not beside the files that it watches: inpod would look at them with each line.
	logs := filepath.Join(dir, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make a directory: %w", err)
	}
	if srv.daemon, err = lab.StartAs(dir, filepath.Join(logs, "daemon.out"), env, argv...); err != nil {
		return nil, err
	}
	if !lab.Until(20*time.Second, func() bool { return srv.answers() || srv.daemon.Exited() }) || srv.daemon.Exited() {
		said := srv.daemon.Output()
		srv.daemon.Kill()
		return nil, fmt.Errorf("%s does not answer; it said: %.500s", name, said)
	}
	return srv, nil
}

// plainHome gives root another home, for the server alone: what the machine's own .bashrc takes is no figure of a
// server's, and may be most of a login. A plain user has to do with the home that is there.
func plainHome(dir string, argv []string) ([]string, error) {
	if os.Getuid() != 0 {
		return argv, nil
	}
	data, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return nil, fmt.Errorf("cannot find root's home: %w", err)
	}
	passwd := filepath.Join(dir, "passwd")
	text := regexp.MustCompile(`(?m)^(root:[^:]*:[^:]*:[^:]*:[^:]*:)[^:]*:`).ReplaceAllString(string(data), "${1}"+dir+":")
	if err := os.WriteFile(passwd, []byte(text), 0o644); err != nil {
		return nil, fmt.Errorf("cannot write the accounts: %w", err)
	}
	return append([]string{"unshare", "-m", "sh", "-c", `mount --bind "$0" /etc/passwd && exec "$@"`, passwd}, argv...), nil
}

func (srv *sshServer) answers() bool {
	c, err := net.DialTimeout("tcp", "127.0.0.1:"+srv.port, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	buf := make([]byte, 4)
	_ = c.SetReadDeadline(time.Now().Add(time.Second)) // a socket has deadlines
	_, err = c.Read(buf)
	return err == nil && string(buf) == "SSH-"
}

// options are those of every client; an empty cipher is the client's own choice.
func (srv *sshServer) options(cipher string) []string {
	o := []string{
		"-F", "/dev/null", "-i", filepath.Join(srv.dir, "key"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
	}
	if cipher != "" {
		o = append(o, "-c", cipher)
	}
	return o
}

// ssh is the command line for a command on the server.
func (srv *sshServer) ssh(cipher string, args ...string) []string {
	argv := append([]string{"ssh", "-p", srv.port, "-l", srv.user}, srv.options(cipher)...)
	return append(append(argv, "127.0.0.1"), args...)
}

func (srv *sshServer) sftp(cipher string) []string {
	argv := append([]string{"sftp", "-q", "-P", srv.port}, srv.options(cipher)...)
	return append(argv, "-b", "-", srv.user+"@127.0.0.1")
}

// runClient runs a client to its end.
func runClient(ctx context.Context, stdin string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %.300s", argv[0], err, said.String())
	}
	return nil
}

// usage is the processor time of the server so far, with its children: the living, and those it has waited for. It tells
// too how many live.
func (srv *sshServer) usage() (time.Duration, int, error) {
	sum, pids, err := srv.processes()
	return sum, len(pids) - 1, err
}

// processes are the server and all below it, with the time that they took.
func (srv *sshServer) processes() (sum time.Duration, pids []int, err error) {
	type process struct {
		parent int
		cpu    time.Duration
	}
	all := map[int]process{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	for _, file := range stats {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		p := process{}
		p.parent, _ = strconv.Atoi(f[1])
		for _, v := range f[11:15] {
			n, _ := strconv.ParseInt(v, 10, 64)
			p.cpu += time.Duration(n) * 10 * time.Millisecond
		}
		all[pid] = p
	}
	if _, ok := all[srv.daemon.PID()]; !ok {
		return 0, nil, errors.New("the server is gone")
	}
	pids = []int{srv.daemon.PID()}
	for i := 0; i < len(pids); i++ {
		sum += all[pids[i]].cpu
		for child, p := range all {
			if p.parent == pids[i] {
				pids = append(pids, child)
			}
		}
	}
	return sum, pids, nil
}

// cost is what one measurement takes.
type cost struct{ wall, cpu float64 } // seconds

// measure runs do, and waits for the server to be done with it.
func (srv *sshServer) measure(do func() error) (c cost, err error) {
	before, _, err := srv.usage()
	if err != nil {
		return c, err
	}
	began := monotonic()
	if err := do(); err != nil {
		return c, err
	}
	c.wall = (monotonic() - began).Seconds()
	var after time.Duration
	last := time.Duration(-1)
	settled := lab.Until(5*time.Second, func() bool {
		below := 0
		if after, below, err = srv.usage(); err != nil {
			return true
		}
		done := below == 0 && after == last
		last = after
		return done
	})
	if err == nil && !settled {
		err = errors.New("the server has not come to rest")
	}
	c.cpu = (after - before).Seconds()
	return c, err
}
