package sshd

import (
	"io"
	"log/slog"
	"os"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// queues is a channel whose data comes as the library hands it over: the requests before it are in their queue, and
// nobody need have looked at them.
type queues struct {
	ssh.Channel
	data chan byte
}

func (q *queues) Read(b []byte) (int, error) {
	c, ok := <-q.data
	if !ok {
		return 0, io.EOF
	}
	b[0] = c
	return 1, nil
}

func (q *queues) Close() error { return nil }

// A client that resizes and then types means it in that order, though the two come to us through two queues of the
// library: a program that is told to draw draws for the new size.
func TestResizeComesBeforeWhatIsTypedAfterIt(t *testing.T) {
	rounds := 20_000
	if testing.Short() {
		rounds = 2_000
	}
	me := &account{own: true, uid: os.Getuid(), gid: os.Getgid()}
	q := &queues{data: make(chan byte, 1)}
	ss := newSession(&conn{account: me, grant: &grant{}, log: slog.New(slog.DiscardHandler)}, q)
	requests := make(chan *ssh.Request, 16) // as the library's
	over := make(chan struct{})
	go func() { defer close(over); ss.requests(requests) }()
	requests <- &ssh.Request{Type: "pty-req", Payload: ssh.Marshal(ptyRequest{Term: "vt100"})}
	ss.settle()
	next := make(chan int)
	go func() {
		defer close(q.data)
		for i := range next {
			for _, w := range []windowSize{{Columns: 1, Rows: 1}, {Columns: uint32(i), Rows: uint32(i / 2)}} {
				requests <- &ssh.Request{Type: "window-change", Payload: ssh.Marshal(w)}
			}
			q.data <- 'x'
		}
		close(requests)
	}()
	wrong := 0
	for i := range rounds {
		next <- i
		if _, err := ss.ch.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		got, err := unix.IoctlGetWinsize(int(ss.term.slave.Fd()), unix.TIOCGWINSZ)
		if err != nil {
			t.Fatal(err)
		}
		if int(got.Col) != i || int(got.Row) != i/2 {
			wrong++
		}
	}
	close(next)
	if wrong > 0 {
		t.Errorf("in %d of %d rounds what was typed came before the size", wrong, rounds)
	}
	<-over
	ss.settle() // nobody waits for a session that is over
}
