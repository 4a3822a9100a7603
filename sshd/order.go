package sshd

import "golang.org/x/crypto/ssh"

// ordered is the channel of a session on a terminal: what is read from it comes after the requests that the client sent
// before it, as a size or a signal. The library has a queue for each of the two.
type ordered struct {
	ssh.Channel
	settle func()
}

// Read implements ssh.Channel.
func (o ordered) Read(b []byte) (int, error) {
	n, err := o.Channel.Read(b)
	if n > 0 {
		o.settle()
	}
	return n, err
}

// settle returns when every request is handled that had come before it was called. The library puts messages into its
// queues in their order, so it is enough that the queue of requests has been seen empty by the one who handles them.
func (ss *session) settle() {
	done := make(chan struct{})
	select {
	case ss.settling <- done:
	case <-ss.ended:
		return
	}
	select {
	case <-done:
	case <-ss.ended:
	}
}

// next returns the next request, and answers those who settle; false when there will be none.
func (ss *session) next(requests <-chan *ssh.Request) (*ssh.Request, bool) {
	for {
		if ss.settled != nil {
			select {
			case r, ok := <-requests:
				return r, ok // ended is closed behind the last one
			default:
				close(ss.settled)
				ss.settled = nil
			}
		}
		select {
		case r, ok := <-requests:
			return r, ok
		case ss.settled = <-ss.settling:
		}
	}
}
