package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/inpod/inpod/e2e/lab"
)

// sampler asks for getAllProcessInfo all the time, as a dashboard would, and keeps the states it saw.
type sampler struct {
	stop chan struct{}
	wg   sync.WaitGroup
	c    *lab.Client
	mu   sync.Mutex
	runs map[string][]stretch // by group:name
	last time.Time            // of the last sample
}

// stretch is a state and when it was seen last.
type stretch struct {
	state string
	at    time.Time
}

const samplePeriod = 30 * time.Millisecond

func newSampler(c *lab.Client) *sampler {
	s := &sampler{c: c, stop: make(chan struct{}), runs: map[string][]stretch{}}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		tick := time.NewTicker(samplePeriod)
		defer tick.Stop()
		for {
			select {
			case <-s.stop:
				return
			case <-tick.C:
				s.sample(c)
			}
		}
	}()
	return s
}

func (s *sampler) sample(c *lab.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	v, err := c.Call(ctx, "supervisor.getAllProcessInfo")
	if err != nil {
		return
	}
	now := time.Now()
	list, _ := v.([]any)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = now
	for _, e := range list {
		m, _ := e.(map[string]any)
		key := fmt.Sprintf("%v:%v", m["group"], m["name"])
		state := fmt.Sprint(m["statename"])
		r := s.runs[key]
		if n := len(r); n > 0 && r[n-1].state == state {
			r[n-1].at = now
			continue
		}
		s.runs[key] = append(r, stretch{state: state, at: now})
	}
}

// halt ends the sampling, with a last look. It may be called twice.
func (s *sampler) halt() {
	select {
	case <-s.stop:
		return
	default:
	}
	close(s.stop)
	s.wg.Wait()
	s.sample(s.c)
}

// contradictions lists the programs whose sampled states do not fit the state events: getAllProcessInfo and the
// listeners must tell one story. The sampler may miss a state that was short, it may never see one that was not there.
func (s *sampler) contradictions(events map[string][]string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for key, r := range s.runs {
		if strings.HasPrefix(key, "zzwatch:") {
			continue
		}
		story := append([]string{"STOPPED"}, events[key]...)
		at := 0
		for _, st := range r {
			i := slices.Index(story[at:], st.state)
			if i < 0 {
				var seen []string
				for _, st := range r {
					seen = append(seen, st.state)
				}
				out = append(out, fmt.Sprintf("%s: sampled %v, events say %v", key, seen, story))
				break
			}
			at += i
		}
	}
	sort.Strings(out)
	return out
}

// final is the last state of each program that was there in the last sample.
func (s *sampler) final() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for key, r := range s.runs {
		if last := r[len(r)-1]; last.at.Equal(s.last) && !strings.HasPrefix(key, "zzwatch:") {
			out = append(out, fmt.Sprintf("sampled last %s: %s", key, last.state))
		}
	}
	sort.Strings(out)
	return out
}

// seenStates adds what the sampler saw to the transcript.
func (s *side) seenStates() {
	if s.seen == nil {
		return
	}
	s.seen.halt()
	s.lines = append(s.lines, s.seen.final()...)
}

// processes is what getAllProcessInfo says of every program, by group:name.
func (s *side) processes() (map[string]map[string]any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	v, err := s.c.Call(ctx, "supervisor.getAllProcessInfo")
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]any{}
	list, _ := v.([]any)
	for _, e := range list {
		m, _ := e.(map[string]any)
		out[fmt.Sprintf("%v:%v", m["group"], m["name"])] = m
	}
	return out, nil
}

// states is the present state of every program, by group:name.
func (s *side) states() (map[string]string, error) {
	list, err := s.processes()
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for key, m := range list {
		out[key] = fmt.Sprint(m["statename"])
	}
	return out, nil
}

// settle waits until no program is on its way from one state to another, and has not been for a moment:
// a program that is to be started again is EXITED in between.
func (s *side) settle(limit time.Duration) {
	var last map[string]string
	var since time.Time
	quiet := func() bool {
		now, err := s.states()
		if err != nil {
			var f *lab.Fault
			return s.d.Exited() || errors.As(err, &f)
		}
		if !maps.Equal(last, now) {
			last, since = now, time.Now()
		}
		for _, st := range now {
			switch st {
			case "STARTING", "BACKOFF", "STOPPING":
				return false
			}
		}
		// A program with autostart is still STOPPED in the first moment.
		return time.Since(since) > 250*time.Millisecond && s.autostarted(now)
	}
	// Not as often as lab.Until asks: that alone would keep both cores busy, as Python needs milliseconds for an answer.
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	end := time.Now().Add(limit)
	ok := quiet()
	for ; !ok && time.Now().Before(end); ok = quiet() {
		<-tick.C
	}
	if !ok {
		s.note("did not settle: %v", last)
	}
}

// autostarted tells whether every program that should have been started was.
func (s *side) autostarted(now map[string]string) bool {
	v, err := s.c.Call(context.Background(), "supervisor.getAllConfigInfo")
	if err != nil {
		return true
	}
	info, err := s.c.Call(context.Background(), "supervisor.getAllProcessInfo")
	if err != nil {
		return true
	}
	started := map[string]bool{}
	for _, e := range info.([]any) {
		m := e.(map[string]any)
		key := fmt.Sprintf("%v:%v", m["group"], m["name"])
		started[key] = m["start"] != 0 || m["spawnerr"] != ""
	}
	for _, e := range v.([]any) {
		m, _ := e.(map[string]any)
		key := fmt.Sprintf("%v:%v", m["group"], m["name"])
		if _, there := now[key]; there && m["autostart"] == true && !started[key] {
			return false
		}
	}
	return true
}

// event is one line that the listener wrote.
type event struct {
	ms      int64
	header  map[string]string
	payload string
}

func readEvents(path string) []event {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var out []event
	for _, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		f := strings.SplitN(line, "\t", 3)
		if len(f) != 3 {
			continue
		}
		ms, _ := strconv.ParseInt(f[0], 10, 64)
		payload, err := strconv.Unquote(f[2])
		if err != nil {
			continue
		}
		out = append(out, event{ms: ms, header: fields(f[1]), payload: payload})
	}
	return out
}

func fields(s string) map[string]string {
	out := map[string]string{}
	for _, kv := range strings.Fields(s) {
		k, v, _ := strings.Cut(kv, ":")
		out[k] = v
	}
	return out
}

// caughtUp waits until the watch log holds every event of what has happened so far. Events come to a listener in their order,
// some time after what they tell of; so it is whole when it holds one that came later than all of that.
func (s *side) caughtUp() {
	isLast := func(event) bool { return false }
	if kind := s.sc.lastEvent(); kind == remoteEvent {
		s.marks++
		word := fmt.Sprintf("mark-%d", s.marks)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := s.c.Call(ctx, "supervisor.sendRemoteCommEvent", "zzwatch", word); err != nil {
			s.note("cannot send an event: %v", err)
			return
		}
		isLast = func(ev event) bool { return strings.HasSuffix(ev.payload, "\n"+word) }
	} else {
		now := time.Now().Unix()
		isLast = func(ev event) bool {
			when, err := strconv.ParseInt(fields(ev.payload)["when"], 10, 64)
			return ev.header["eventname"] == kind && err == nil && when > now
		}
	}
	if !lab.Until(patience, func() bool { return slices.ContainsFunc(readEvents(s.path("watch.log")), isLast) }) {
		s.note("the watch log is not whole")
	}
}

// endWatch reads the watch log, once, when it agrees with what getAllProcessInfo says. It is called
// before anything that stops the listener.
func (s *side) endWatch() {
	if s.watched {
		return
	}
	s.watched = true
	if s.seen != nil {
		s.seen.halt()
	}
	if !s.sc.watch {
		return
	}
	s.caughtUp()
	var seq map[string][]string
	lab.Until(patience, func() bool {
		var last map[string]string
		seq, last = s.sequences()
		now, err := s.states()
		if err != nil {
			return true
		}
		for key, st := range now {
			if strings.HasPrefix(key, "zzwatch:") || st == "STOPPED" && last[key] == "" { // never started: no event
				continue
			}
			if last[key] != st {
				return false
			}
		}
		return true
	})
	var keys []string
	for k := range seq {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	stories := map[string][]string{}
	for k, evs := range seq {
		for _, ev := range evs {
			name, _, _ := strings.Cut(ev, " ")
			stories[k] = append(stories[k], strings.TrimPrefix(name, "PROCESS_STATE_"))
		}
	}
	if s.seen != nil {
		for _, c := range s.seen.contradictions(stories) {
			s.t.Errorf("%s: %s", s.kind, c)
		}
	}
	for _, k := range keys {
		s.note("events of %s:\n    %s", k, strings.Join(seq[k], "\n    "))
	}
}

// sequences gives the state events of each program in order, and its last state.
func (s *side) sequences() (map[string][]string, map[string]string) {
	seq, last := map[string][]string{}, map[string]string{}
	for _, ev := range readEvents(s.path("watch.log")) {
		f := fields(ev.payload)
		key := f["groupname"] + ":" + f["processname"]
		name := ev.header["eventname"]
		if f["groupname"] == "zzwatch" || !strings.HasPrefix(name, "PROCESS_STATE_") {
			continue
		}
		seq[key] = append(seq[key], s.norm.text(name+" "+ev.payload))
		last[key] = strings.TrimPrefix(name, "PROCESS_STATE_")
	}
	return seq, last
}
