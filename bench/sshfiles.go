package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

const gib = 1 << 30

// bulk is one way to move bytes: what a client is told, and what it leaves behind.
type bulk struct {
	what   string
	cipher string
	speed  *aim
	cpu    *aim
	run    func(ctx context.Context, srv *sshServer, dir string) error
}

// The aims that the project has for the same cipher, and for the client's default.
func sameAims(w bulk) bulk {
	w.cipher, w.speed, w.cpu = sameCipher, times(1, openssh), times(0.8, openssh)
	return w
}

func defaultAims(w bulk) bulk {
	w.what += ", the client's default cipher"
	w.speed, w.cpu = times(1.3, openssh), times(1.05, openssh)
	return w
}

const sshNote = "OpenSSH: Debian's sshd with `UsePAM no`, on the same machine, with the same client; " +
	"the cipher is " + sameCipher + " where no other is named. The files are in memory (tmpfs) on both sides. The CPU is that of the server with all its children; the client and the server share the machine."

// bulks measures each way in turns.
func (b *bench) bulks(ctx context.Context, bytes int, ways ...bulk) (t table, err error) {
	s, err := b.sshServers(ctx)
	if err != nil {
		return t, err
	}
	defer s.stop()
	if err := bigFile(filepath.Join(s.dir, "big"), bytes); err != nil {
		return t, err
	}
	for _, w := range ways {
		rate, cpu := samples{}, samples{}
		for round := range b.pick(5, 3) {
			for _, srv := range s.inTurn(round) {
				c, err := srv.measure(func() error { return w.run(ctx, srv, s.dir) })
				if err != nil {
					return t, fmt.Errorf("%s, %s: %w", srv.name, w.what, err)
				}
				rate.add(srv.name, float64(bytes)/c.wall/1e6)
				cpu.add(srv.name, c.cpu/(float64(bytes)/gib))
			}
		}
		t.add(w.what, megaRate, higher, w.speed, rate.median())
		t.add("… CPU of the server for a GiB", seconds, lower, w.cpu, cpu.median())
	}
	t.note("%s", sshNote)
	return t, nil
}

// bigFile writes bytes that no two blocks of 1 MiB have in common with a compressor in mind.
func bigFile(path string, size int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	rnd := rand.NewChaCha8([32]byte{1})
	block := make([]byte, 1<<20)
	for left := size; left > 0; left -= len(block) {
		_, _ = rnd.Read(block) // never fails
		if _, err := f.Write(block[:min(left, len(block))]); err != nil {
			return err
		}
	}
	return f.Close()
}

// sizeIs removes what was transferred, if it is there as a whole.
func sizeIs(path string, size int64) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st.Size() != size {
		return fmt.Errorf("%d bytes arrived, want %d", st.Size(), size)
	}
	return os.Remove(path)
}

func sftpBulk(command, cipher string, size int) func(context.Context, *sshServer, string) error {
	return func(ctx context.Context, srv *sshServer, dir string) error {
		from, to := filepath.Join(dir, "big"), filepath.Join(dir, "copy")
		if err := runClient(ctx, command+" "+from+" "+to+"\n", srv.sftp(cipher)...); err != nil {
			return err
		}
		return sizeIs(to, int64(size))
	}
}

func (b *bench) bulkSize() int { return b.pick(1024, 256) << 20 }

func measureSSHGet(ctx context.Context, b *bench) (table, error) {
	n := b.bulkSize()
	return b.bulks(ctx, n, sameAims(bulk{what: "`get`", run: sftpBulk("get", sameCipher, n)}),
		defaultAims(bulk{what: "`get`", run: sftpBulk("get", "", n)}))
}

func measureSSHPut(ctx context.Context, b *bench) (table, error) {
	n := b.bulkSize()
	return b.bulks(ctx, n, sameAims(bulk{what: "`put`", run: sftpBulk("put", sameCipher, n)}),
		defaultAims(bulk{what: "`put`", run: sftpBulk("put", "", n)}))
}

// measureSSHParallel has four clients, each with a connection, a quarter of the bytes each.
func measureSSHParallel(ctx context.Context, b *bench) (table, error) {
	const clients = 4
	n := b.bulkSize()
	way := func(command string) bulk {
		return sameAims(bulk{what: "four times `" + command + "`, together", run: func(ctx context.Context, srv *sshServer, dir string) error {
			from, done := filepath.Join(dir, "quarter"), make(chan error, clients)
			if err := bigFileOnce(from, n/clients); err != nil {
				return err
			}
			for i := range clients {
				go func() {
					to := filepath.Join(dir, fmt.Sprint("copy", i))
					err := runClient(ctx, command+" "+from+" "+to+"\n", srv.sftp(sameCipher)...)
					if err == nil {
						err = sizeIs(to, int64(n/clients))
					}
					done <- err
				}()
			}
			var all error
			for range clients {
				all = errors.Join(all, <-done)
			}
			return all
		}})
	}
	return b.bulks(ctx, n, way("get"), way("put"))
}

func bigFileOnce(path string, size int) error {
	if st, err := os.Stat(path); err == nil && st.Size() == int64(size) {
		return nil
	}
	return bigFile(path, size)
}

// measureSSHScp copies with both protocols. The machine has an scp, which OpenSSH's server runs for the old one.
func measureSSHScp(ctx context.Context, b *bench) (table, error) {
	n := b.bulkSize() / 2
	var ways []bulk
	for _, protocol := range []string{"-s", "-O"} {
		for _, up := range []bool{false, true} {
			what := map[bool]string{false: " from the server", true: " to the server"}[up]
			name := map[string]string{"-s": "`scp`", "-O": "`scp -O`, the old protocol,"}[protocol]
			ways = append(ways, sameAims(bulk{what: name + what, run: func(ctx context.Context, srv *sshServer, dir string) error {
				far := srv.user + "@127.0.0.1:" + dir
				from, to := far+"/big", filepath.Join(dir, "copy")
				if up {
					from, to = filepath.Join(dir, "big"), far+"/copy"
				}
				argv := append([]string{"scp", "-q", protocol, "-P", srv.port}, srv.options(sameCipher)...)
				if err := runClient(ctx, "", append(argv, from, to)...); err != nil {
					return err
				}
				return sizeIs(filepath.Join(dir, "copy"), int64(n))
			}}))
		}
	}
	return b.bulks(ctx, n, ways...)
}

func measureSSHRsync(ctx context.Context, b *bench) (table, error) {
	n := b.bulkSize() / 2
	var ways []bulk
	for _, up := range []bool{false, true} {
		what := map[bool]string{false: "`rsync -a -W` from the server", true: "`rsync -a -W` to the server"}[up]
		ways = append(ways, sameAims(bulk{what: what, run: func(ctx context.Context, srv *sshServer, dir string) error {
			far := srv.user + "@127.0.0.1:" + dir
			from, to := far+"/big", filepath.Join(dir, "copy")
			if up {
				from, to = filepath.Join(dir, "big"), far+"/copy"
			}
			shell := strings.Join(append([]string{"ssh", "-p", srv.port}, srv.options(sameCipher)...), " ")
			if err := runClient(ctx, "", "rsync", "-a", "-W", "-e", shell, from, to); err != nil {
				return err
			}
			return sizeIs(filepath.Join(dir, "copy"), int64(n))
		}}))
	}
	t, err := b.bulks(ctx, n, ways...)
	t.note("The far rsync is part of the server's CPU.")
	return t, err
}

// measureSSHSmall moves a directory of small files, which costs a few requests each.
func measureSSHSmall(ctx context.Context, b *bench) (t table, err error) {
	n := b.pick(10_000, 1_000)
	s, err := b.sshServers(ctx)
	if err != nil {
		return t, err
	}
	defer s.stop()
	from := filepath.Join(s.dir, "many")
	if err := os.Mkdir(from, 0o755); err != nil {
		return t, err
	}
	for i := range n {
		if err := bigFile(filepath.Join(from, fmt.Sprintf("file%05d", i)), 4<<10); err != nil {
			return t, err
		}
	}
	for _, command := range []string{"get", "put"} {
		rate, cpu := samples{}, samples{}
		for round := range b.pick(5, 3) {
			for _, srv := range s.inTurn(round) {
				to := filepath.Join(s.dir, "copies")
				c, err := srv.measure(func() error {
					return runClient(ctx, command+" -r "+from+" "+to+"\n", srv.sftp(sameCipher)...)
				})
				if err != nil {
					return t, fmt.Errorf("%s: %w", srv.name, err)
				}
				names, err := os.ReadDir(to)
				if err != nil || len(names) != n {
					return t, fmt.Errorf("%s: %d files arrived, want %d (%w)", srv.name, len(names), n, err)
				}
				if err := os.RemoveAll(to); err != nil {
					return t, err
				}
				rate.add(srv.name, float64(n)/c.wall)
				cpu.add(srv.name, c.cpu*1000/float64(n)*1000)
			}
		}
		t.add("files of `"+command+" -r`", perSec, higher, times(1, openssh), rate.median())
		t.add("… CPU of the server for 1,000 files", millis, lower, times(0.8, openssh), cpu.median())
	}
	t.note("%s", sshNote)
	return t, nil
}
