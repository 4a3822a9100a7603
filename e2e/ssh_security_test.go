package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inpod/inpod/e2e/lab"
)

// flood opens n connections that never log in and opens each again, after a pause, when it is thrown out. What it returns
// makes that stop: connections stay, and no new ones come; wait returns when the server has ended all of them.
func flood(t *testing.T, s *sshSide, n int) (stop context.CancelFunc, wait func() bool) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	var all sync.WaitGroup
	for i := range n {
		all.Add(1)
		go func() {
			defer all.Done()
			from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i%2))}}
			for ctx.Err() == nil {
				c, err := from.DialContext(ctx, "tcp", "127.0.0.1:"+s.port)
				if err == nil {
					intrude(ctx, c, i)
					c.Close()
				}
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
			}
		}()
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	return stop, func() bool {
		select {
		case <-done:
			return true
		case <-time.After(patience):
			return false
		}
	}
}

// intrude is one connection of a flood, until the server ends it.
func intrude(ctx context.Context, c net.Conn, kind int) {
	const ident = "SSH-2.0-OpenSSH_9.9\r\n"
	switch kind % 8 {
	case 4, 5:
		_, _ = io.WriteString(c, ident)
	case 6: // half of a key exchange
		_, _ = io.WriteString(c, ident+"\x00\x00\x05\x00\x04\x14"+strings.Repeat("x", 600))
	case 7: // slowly, for ever
		go func() {
			for i := 0; ; i++ {
				if _, err := io.WriteString(c, ident[i%4:i%4+1]); err != nil {
					return
				}
				<-time.After(100 * time.Millisecond)
			}
		}()
	}
	_, _ = io.Copy(io.Discard, c)
}

// While 1,000 connections that do not log in come again and again, half of them from the address of the one who does, logins
// go on; the agent's memory is bounded, and in the end they are all thrown out.
func TestSSHFlood(t *testing.T) {
	t.Parallel()
	s := prepareSSH(t, "ssh: {login_grace: 10s}\n")
	s.bin = bins.Inpod // the race detector needs memory of its own
	s.write("keys", s.read(t, s.key+".pub"))
	s.begin(t)
	if !s.says(`"ssh is on"`) {
		t.Fatal("the agent does not serve ssh")
	}
	s.must(t, "", s.ssh("box", "true")...)
	_, before := s.memory(t)
	stop, wait := flood(t, s, 1000)
	if !lab.Until(patience, func() bool { return s.metric("connections_total") > 1500 }) {
		t.Fatal("there is no flood")
	}
	for i := range 6 {
		began := time.Now()
		e := s.run(t, "", s.ssh("box", "echo in")...)
		// A login that stands still for a second, as it may on a busy machine, makes room for others, and comes again.
		for try := 0; try < 4 && e.code == 255 && !strings.Contains(e.errs, "denied"); try++ {
			e = s.run(t, "", s.ssh("box", "echo in")...)
		}
		if e.out != "in\n" || e.code != 0 {
			t.Errorf("login %d during the flood: %+v", i, e)
		}
		if strangers := s.metric("connections_unauthenticated"); strangers > 100 {
			t.Errorf("%d connections are not logged in, want 100 at most", strangers)
		}
		if d := time.Since(began); d > patience {
			t.Errorf("login %d took %s", i, d)
		}
	}
	stop()
	_, most := s.memory(t)
	t.Logf("%d connections came; at most %d MiB, before %d", s.metric("connections_total"), most, before)
	const growth = 32
	if most > before+growth {
		t.Errorf("the agent took %d MiB, and %d before; want %d more at most", most, before, growth)
	}
	if !wait() {
		t.Error("connections that do not log in stay beyond ssh.login_grace")
	}
	if !lab.Until(patience, func() bool { return s.metric("connections_unauthenticated") == 0 }) {
		t.Errorf("%d connections are left", s.metric("connections_unauthenticated"))
	}
}

// metric is a number of /metrics.
func (s *sshSide) metric(name string) int {
	_, body := s.get("/metrics")
	m := regexp.MustCompile(`(?m)^inpod_ssh_` + name + ` (\S+)`).FindStringSubmatch(body)
	if m == nil {
		return -1
	}
	f, _ := strconv.ParseFloat(m[1], 64)
	return int(f)
}

// withPassword is a client that tries one password, from an address of its own, as wrong ones of one address wait.
func (s *sshSide) withPassword(from, user, password string, more ...string) []string {
	argv := append([]string{"sshpass", "-p", password}, s.ssh("-b", from, "-o", "BatchMode=no", "-o", "PubkeyAuthentication=no",
		"-o", "NumberOfPasswordPrompts=1", "-o", "PreferredAuthentications=password")...)
	return append(append(argv, more...), "-l", user, "127.0.0.1", "echo in")
}

// preparePasswords is prepareSSH with passwords, and users of every kind: one with a password, one without any credential,
// one without a login shell, and one that is not there.
func preparePasswords(t *testing.T) (s *sshSide, users []string) {
	t.Helper()
	s = prepareSSH(t, "", "INPOD_SSH_AUTHORIZED_KEYS=")
	s.env = append(s.env, "INPOD_SSH_PASSWORD_FILE="+s.path("root-passwd"))
	s.write("passwd", s.read(t, s.path("passwd"))+"nologin:x:60001:60001::/nonexistent:/usr/sbin/nologin\n")
	s.write("root-passwd", s.user+":the password\nnologin:the password\n")
	s.begin(t)
	if !s.says(`"ssh is on"`) || !s.says(`"took passwords from ssh.password_file"`) {
		t.Fatal("the agent does not serve ssh")
	}
	return s, []string{s.user, "daemon", "nologin", "nosuchuser"}
}

// Neither what is said nor when it is said tells whether there is a user of a name.
func TestSSHNamesAreNotTold(t *testing.T) {
	t.Parallel()
	s, users := preparePasswords(t)
	key := s.path("client/another")
	s.must(t, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	address := 0
	for what, try := range map[string]func(user string) []string{
		"password": func(user string) []string {
			address++
			return s.withPassword(fmt.Sprintf("127.0.%d.%d", 1+address/250, 1+address%250), user, "wrong")
		},
		"publickey": func(user string) []string {
			return append(append([]string{"ssh", "-F", s.path("client/other-config")}, "-i", key), user+"@127.0.0.1", "echo in")
		},
	} {
		s.write("client/other-config", strings.ReplaceAll(s.read(t, s.conf), s.key+"\n", key+"\n"))
		// A busy machine may make a difference; only one that is always there is still found in seventy turns.
		took := map[string][]time.Duration{}
		for range 10 {
			s.refusals(t, users, 7, try, took)
			if len(telling(took, "nosuchuser")) == 0 {
				break
			}
		}
		for user, list := range took {
			t.Logf("%s: %s: %s at least in %d turns", what, user, slices.Min(list), len(list))
		}
		if users := telling(took, "nosuchuser"); len(users) > 0 {
			t.Errorf("%s: the time tells of %q: %v", what, users, took)
		}
	}
}

// refusals takes the time of n attempts for each user, in turns; all of them must be refused in the same words.
func (s *sshSide) refusals(t *testing.T, users []string, n int, try func(user string) []string, took map[string][]time.Duration) {
	t.Helper()
	words := map[string]bool{}
	for range n {
		for _, user := range users {
			argv := try(user)
			began := time.Now()
			e := s.run(t, "", argv...)
			took[user] = append(took[user], time.Since(began))
			if e.code == 0 || e.out != "" {
				t.Errorf("%s is let in: %+v", user, e)
			}
			words[strings.ReplaceAll(e.errs, user, "USER")] = true
		}
	}
	if len(words) != 1 {
		t.Errorf("the refusals differ: %v", words)
	}
}

// telling are the users whose time is not that of somebody who is not there: it is away by a quarter, in the same direction
// in nine of ten turns.
func telling(took map[string][]time.Duration, of string) (users []string) {
	for user, list := range took {
		slower := 0
		for turn, d := range list {
			if d > took[of][turn] {
				slower++
			}
		}
		ratio := float64(slices.Min(list)) / float64(slices.Min(took[of]))
		if (ratio > 1.25 || ratio < 0.8) && (10*slower < len(list) || 10*slower > 9*len(list)) {
			users = append(users, user)
		}
	}
	return users
}

// Who guesses waits, and longer each time; the right password, a key and other addresses are let in meanwhile, and after
// the right password nothing is held against the address.
func TestSSHGuessing(t *testing.T) {
	t.Parallel()
	s, _ := preparePasswords(t)
	s.write("home/.ssh/authorized_keys", s.read(t, s.key+".pub"))
	try := func(from, password, want string) {
		t.Helper()
		if e := s.run(t, "", s.withPassword(from, s.user, password)...); e.out != want {
			t.Errorf("%q from %s: %+v, want %q", password, from, e, want)
		}
	}
	for range 2 {
		try("127.0.9.1", "wrong", "")
	}
	// TestBackoff has the delays, which count from the third guess on: 1 s, 1 s, 2 s, 4 s, and 8 s for the right one.
	began := time.Now()
	for range 5 {
		try("127.0.9.1", "wrong", "")
	}
	if d := time.Since(began); d < 8*time.Second {
		t.Errorf("five more guesses took %s, want 8 s or more", d)
	}
	_, out, right := s.background(t, s.withPassword("127.0.9.1", s.user, "the password")...)
	try("127.0.9.2", "the password", "in\n")
	if out := s.must(t, "", s.ssh("-b", "127.0.9.1", "box", "echo in")...); out != "in\n" {
		t.Errorf("a key: %q", out)
	}
	_ = right.Wait()
	if d := time.Since(began); out.String() != "in\n" || d < 16*time.Second {
		t.Errorf("the right password: %q, %s after the third guess, want 16 s or more", out.String(), d)
	}
	// Then the address is forgiven: three in a row would wait for 45 s.
	began = time.Now()
	for range 3 {
		try("127.0.9.1", "the password", "in\n")
	}
	if d := time.Since(began); d > 30*time.Second {
		t.Errorf("after the right password: %s", d)
	}
}

// cutter is a way to the server that ends each connection after a number of bytes from the client.
func cutter(t *testing.T, s *sshSide, after func(connection int) int64) (port string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for i := 0; ; i++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				far, err := net.Dial("tcp", "127.0.0.1:"+s.port)
				if err != nil {
					return
				}
				defer far.Close()
				go func() { _, _ = io.Copy(c, far); c.Close() }()
				_, _ = io.CopyN(far, c, after(i))
			}()
		}
	}()
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	return port
}

// An upload of OpenSSH's sftp that is cut at any byte is gone on with by reput, and ends with the same sum; so is a
// download by reget. TestACutUploadCanBeResumed of sshd/sftp cuts at 200 bytes.
func TestSSHCuts(t *testing.T) {
	t.Parallel()
	s := startSSH(t, "")
	rnd := rand.New(rand.NewPCG(5, 6))
	data := make([]byte, 8<<20)
	for i := range data {
		data[i] = byte(rnd.Uint32())
	}
	s.write("client/data", string(data))
	cuts := 20
	if testing.Short() {
		cuts = 5
	}
	places := make([]int64, cuts)
	for i := range places {
		places[i] = 3000 + rnd.Int64N(1<<20) // some of them before the login is over
	}
	port := cutter(t, s, func(i int) int64 {
		if i < cuts {
			return places[i]
		}
		return 1 << 40
	})
	verb, failed := "put", 0
	for range cuts + 5 {
		if _, err := os.Stat(s.path("home/sent")); err == nil {
			verb = "reput"
		}
		e := s.run(t, verb+" data sent\n", "sftp", "-F", s.conf, "-P", port, "-b", "-", "box")
		if e.code == 0 {
			break
		}
		failed++
		// What is left of it must not meet the next one in the file.
		if !lab.Until(patience, func() bool { return s.metric("connections") == 0 }) {
			t.Fatalf("cut %d: the connection stays", failed)
		}
		if have, err := os.ReadFile(s.path("home/sent")); err == nil && string(have) != string(data[:min(len(have), len(data))]) {
			t.Fatalf("cut %d: the %d bytes that came are not the beginning", failed, len(have))
		}
	}
	if failed < cuts/2 {
		t.Errorf("%d uploads were cut, want %d or so", failed, cuts)
	}
	if s.read(t, s.path("home/sent")) != string(data) {
		t.Error("the file is another")
	}
	t.Logf("%d uploads were cut", failed)
}

// When the disk is full the client is told, and the log; what came is kept, and gone on with when there is room.
func TestSSHFullDisk(t *testing.T) {
	t.Parallel()
	s := startSSHAs(t, "", setup{}, "mkdir -p DIR/home/disk && mount -t tmpfs -o size=3m none DIR/home/disk && ")
	data := make([]byte, 2<<20)
	rnd := rand.New(rand.NewPCG(7, 8))
	for i := range data {
		data[i] = byte(rnd.Uint32())
	}
	s.write("client/data", string(data))
	s.must(t, "", s.ssh("box", "head -c 2M /dev/zero > disk/filler")...)
	sftp := func(batch string) ended {
		return s.run(t, batch+"\n", "sftp", "-F", s.conf, "-b", "-", "box")
	}
	if e := sftp("put data disk/sent"); e.code == 0 || !strings.Contains(e.errs, "write") || !strings.Contains(e.errs, "Failure") {
		t.Errorf("sftp: %+v", e)
	}
	if !s.says(`"transfer"`, "disk/sent", "no space left on device") {
		t.Error("the log does not tell that the disk is full")
	}
	size, err := strconv.Atoi(strings.TrimSpace(s.must(t, "", s.ssh("box", "stat -c %s disk/sent")...)))
	if err != nil || size == 0 || size >= len(data) {
		t.Errorf("%d bytes are kept, %v", size, err)
	}
	if e := s.run(t, "", "scp", "-F", s.conf, "-O", s.client+"/data", "box:disk/copied"); e.code == 0 || !strings.Contains(e.errs, "No space left on device") &&
		!strings.Contains(e.errs, "no space left on device") {
		t.Errorf("scp: %+v", e)
	}
	if e := sftp("rm disk/filler\nrm disk/copied\nreput data disk/sent\nget disk/sent back"); e.code != 0 {
		t.Errorf("when there is room: %+v", e)
	}
	if s.read(t, s.path("client/back")) != string(data) {
		t.Error("the file is another")
	}
}
