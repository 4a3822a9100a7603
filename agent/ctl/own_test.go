package ctl

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// silent is an agent that is not there, and whose address then stops to answer.
type silent struct{ asked int }

func (s *silent) Admin(ctx context.Context, _, _ string) (int, []byte, error) {
	if s.asked++; s.asked < 3 {
		return 0, nil, syscall.ECONNREFUSED
	}
	<-ctx.Done()
	return 0, nil, ctx.Err()
}

// The time may be over in the middle of a question: it is said all the same that nobody was there.
func TestReadyOfNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ready, _, err := Ready(ctx, &silent{}, true)
		if ready || err == nil || !strings.Contains(err.Error(), "no agent in time") {
			t.Errorf("got %v, %v", ready, err)
		}
	})
}
