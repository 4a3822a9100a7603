package supervisor

import (
	"slices"
	"syscall"
	"time"

	"github.com/inpod/inpod/supervisor/ini"
)

// An instant is one moment on two clocks. The wall clock is only shown to people, since an administrator or
// NTP may set it back; every deadline is counted on the clock that never goes back.
type instant struct {
	wall time.Time
	up   time.Duration
}

// rules are the parts of a program's configuration that decide about its states.
type rules struct {
	startsecs    time.Duration
	startretries int
	autorestart  ini.AutoRestart
	exitCodes    []int
	stopSignals  []syscall.Signal
	stopwait     time.Duration
	stopasgroup  bool
	killasgroup  bool
	oneshot      bool
	pause        time.Duration           // restartPause
	delay        func(int) time.Duration // how long to wait before the nth retry
}

// The shortest time between two starts that nobody asked for. Supervisor's select loop has the same effect;
// without it a program that ends at once with startsecs=0 would be started without end.
const restartFloor = time.Second

// The same after an expected exit: an event listener may end after each event and be wanted again.
const restartFloorExpected = 100 * time.Millisecond

type inputKind int

const (
	inStart        inputKind = iota // somebody wants it to run
	inSpawned                       // the answer to doSpawn: it runs as pid
	inSpawnFailed                   // the answer to doSpawn: it does not, text says why
	inExited                        // the main process is gone; leftovers: its descendants are not
	inGone                          // the descendants are gone, too
	inStop                          // somebody wants it to stop
	inRestart                       // stop, then start again
	inSignalFailed                  // the kernel refused doSignal
	inGiveUp                        // shutdown: do not try again
	inClose                         // shutdown: start nothing from now on
	inTick                          // the deadline has come
	inCrashed                       // the owner panicked, text says how
)

type input struct {
	kind      inputKind
	pid       int
	code      int // -1 when a signal ended it
	text      string
	leftovers bool
}

type actionKind int

const (
	doSpawn      actionKind = iota
	doAbandon               // end the spawn that is under way
	doSignal                // the main process, or its group
	doSignalRest            // what the main process left behind
	doChange                // tell that the state changed
	doLog
)

type action struct {
	kind   actionKind
	signal syscall.Signal
	group  bool
	change Change
	msg    string // for doLog
	warn   bool
	detail string
}

// machine is the state machine of one process (supervisord.org/subprocess.html). It does nothing by itself: step
// takes what happened and returns what is to be done, in order; when the deadline comes its owner sends inTick.
type machine struct {
	rules *rules

	state      State
	pid        int
	spawning   bool // between doSpawn and its answer
	killing    bool // between a stop and the end that it causes
	restarting bool // start again when the stop is done
	closing    bool

	started    time.Time     // wall clock, 0 = never
	stopped    time.Time     // wall clock, 0 = never
	startedUp  time.Duration // when the process that runs now was born
	armed      bool
	deadline   time.Duration
	backoff    int
	sent       int // how many of the stop signals were sent
	exitstatus int
	spawnerr   string
	left       *input // the exit that waits for the descendants
	crash      string // why it is given up once it is gone, "" = it is not
	todo       []action
}

// step tells the machine what happened. The slice is valid until the next step.
func (m *machine) step(in input, now instant) []action {
	m.todo = m.todo[:0]
	switch in.kind {
	case inStart:
		if m.pid == 0 && !m.spawning && !m.closing && m.state != Starting && m.state != Stopping {
			m.spawn(now)
		}
	case inSpawned:
		m.spawnDone(in.pid, now)
	case inSpawnFailed:
		m.spawnFailed(in.text, now)
	case inExited:
		m.exited(in, now)
	case inGone:
		if m.left != nil {
			m.stopDone(*m.left, now)
		}
	case inStop:
		m.restarting = false
		m.stop(now)
	case inRestart:
		if m.state == Running || m.state == Starting {
			m.restarting = true
			m.stop(now)
		}
	case inSignalFailed:
		m.killing, m.restarting, m.armed = false, false, false
		m.change(Unknown, false)
	case inGiveUp:
		if m.state == Backoff {
			m.giveUp()
		}
	case inClose:
		m.closing, m.restarting = true, false
		if m.state == Exited || m.state == Stopped {
			m.armed = false
		}
	case inTick:
		if m.armed && now.up >= m.deadline {
			m.armed = false
			m.tick(now)
		}
	case inCrashed:
		m.crashed(in.text, now)
	}
	return m.todo
}

func (m *machine) arm(at time.Duration) { m.armed, m.deadline = true, at }

func (m *machine) do(a action) { m.todo = append(m.todo, a) }

func (m *machine) change(to State, expected bool) {
	if m.state == to {
		return
	}
	m.do(action{kind: doChange, change: Change{
		From: m.state, To: to, PID: m.pid, Tries: m.backoff, Expected: expected, Exit: m.exitstatus,
	}})
	m.state = to
}

func (m *machine) spawn(now instant) {
	m.killing, m.restarting, m.armed = false, false, false
	m.spawnerr, m.exitstatus, m.left, m.crash = "", 0, nil, ""
	m.started, m.startedUp = now.wall, now.up
	m.change(Starting, true)
	m.spawning = true
	m.do(action{kind: doSpawn})
}

func (m *machine) spawnDone(pid int, now instant) {
	m.spawning = false
	m.pid = pid
	m.startedUp = now.up
	m.do(action{kind: doLog, msg: "spawned"})
	if m.killing {
		m.signalNext(now)
		return
	}
	m.arm(now.up + m.rules.startsecs)
	if m.rules.startsecs <= 0 {
		m.running()
	}
}

func (m *machine) spawnFailed(text string, now instant) {
	m.spawning = false
	if m.killing {
		m.stopDone(input{text: "never started"}, now)
		return
	}
	m.spawnerr = text
	m.do(action{kind: doLog, warn: true, msg: "cannot spawn", detail: text})
	m.toBackoff(now)
}

func (m *machine) running() {
	m.armed = false
	m.backoff = 0
	m.change(Running, true)
	m.do(action{kind: doLog, msg: "running"})
}

func (m *machine) toBackoff(now instant) {
	m.backoff++
	m.change(Backoff, true)
	m.pid = 0
	if m.backoff > m.rules.startretries {
		m.giveUp()
		return
	}
	m.arm(now.up + m.rules.delay(m.backoff))
}

func (m *machine) giveUp() {
	m.armed = false
	m.backoff = 0
	m.change(Fatal, true)
	m.do(action{kind: doLog, warn: true, msg: "gave up: too many start retries too quickly", detail: m.spawnerr})
}

func (m *machine) exited(in input, now instant) {
	if m.killing {
		if in.leftovers {
			m.left = &in
			m.do(action{kind: doSignalRest, signal: m.rules.stopSignals[0]})
			return
		}
		m.stopDone(in, now)
		return
	}
	m.stopped = now.wall
	m.armed = false
	expected := slices.Contains(m.rules.exitCodes, in.code)
	if m.state == Starting && now.up-m.startedUp < m.rules.startsecs && !(m.rules.oneshot && expected) {
		m.exitstatus = 0
		m.spawnerr = "Exited too quickly (process log may have details)"
		m.do(action{kind: doLog, warn: true, msg: "exited", detail: in.text + "; not expected"})
		m.toBackoff(now)
		return
	}
	m.exitstatus = in.code
	if m.state == Starting {
		m.running()
	}
	m.backoff = 0
	if expected {
		m.do(action{kind: doLog, msg: "exited", detail: in.text + "; expected"})
	} else {
		m.spawnerr = "Bad exit code " + itoa(in.code)
		m.do(action{kind: doLog, warn: true, msg: "exited", detail: in.text + "; not expected"})
	}
	unknown := m.state == Unknown
	m.change(Exited, expected)
	m.pid = 0
	if !unknown && m.restarts() {
		floor := restartFloor
		if expected {
			floor = restartFloorExpected
		}
		m.again(max(now.up+m.rules.pause, m.startedUp+floor), now)
	}
}

// restarts tells whether the program that has just exited is started again.
func (m *machine) restarts() bool {
	expected := slices.Contains(m.rules.exitCodes, m.exitstatus)
	if m.closing || m.rules.oneshot && expected {
		return false
	}
	return m.rules.autorestart == ini.RestartAlways || m.rules.autorestart == ini.RestartUnexpected && !expected
}

func (m *machine) again(at time.Duration, now instant) {
	if at <= now.up {
		m.spawn(now)
		return
	}
	m.arm(at)
}

// final tells that nothing will start the program again by itself.
func (m *machine) final() bool {
	return (m.state == Fatal || m.state == Exited) && !m.armed && !m.spawning
}

// returns tells that the program has ended, or ends now, to be started again.
func (m *machine) returns() bool {
	return m.restarting || m.armed && (m.state == Exited || m.state == Stopped)
}

func (m *machine) stop(now instant) {
	switch m.state {
	case Backoff:
		// Otherwise a program with many retries could not be stopped for a long time.
		m.armed = false
		m.change(Stopped, true)
	case Stopped:
		m.armed = false
	case Exited:
		if m.armed { // it was to be started again
			m.armed = false
			m.change(Stopped, true)
		}
	case Starting, Running:
		m.killing = true
		m.sent = 0
		m.change(Stopping, true)
		if m.spawning {
			m.do(action{kind: doAbandon})
			m.arm(now.up + m.rules.stopwait)
			return
		}
		m.signalNext(now)
	}
}

// signalNext sends the next stop signal or, when all were in vain, SIGKILL.
func (m *machine) signalNext(now instant) {
	if m.sent < len(m.rules.stopSignals) {
		m.do(action{kind: doSignal, signal: m.rules.stopSignals[m.sent], group: m.rules.stopasgroup})
		m.sent++
		m.arm(now.up + m.rules.stopwait)
		return
	}
	m.do(action{kind: doLog, warn: true, msg: "killing with SIGKILL"})
	m.do(action{kind: doSignal, signal: syscall.SIGKILL, group: m.rules.killasgroup})
	m.arm(now.up + max(m.rules.stopwait, restartFloor))
}

func (m *machine) stopDone(in input, now instant) {
	m.killing, m.armed, m.left = false, false, nil
	m.stopped = now.wall
	m.exitstatus = in.code
	m.do(action{kind: doLog, msg: "stopped", detail: in.text, warn: !slices.Contains(m.rules.exitCodes, in.code)})
	if m.crash != "" {
		m.spawnerr, m.crash = m.crash, ""
		m.change(Fatal, true)
	} else {
		m.change(Stopped, true)
	}
	m.pid = 0
	if m.restarting && !m.closing {
		m.again(now.up+m.rules.pause, now)
	}
}

// crashed gives the program up: what runs of it is killed, and when that is gone it is FATAL.
func (m *machine) crashed(text string, now instant) {
	m.crash, m.restarting, m.left, m.backoff = text, false, nil, 0
	if m.pid == 0 && !m.spawning {
		m.stopDone(input{code: m.exitstatus, text: text}, now)
		return
	}
	m.killing, m.sent = true, len(m.rules.stopSignals)
	m.change(Stopping, true)
	if m.spawning {
		m.do(action{kind: doAbandon})
		m.arm(now.up + restartFloor)
		return
	}
	m.signalNext(now)
}

func (m *machine) tick(now instant) {
	switch m.state {
	case Starting:
		m.running()
	case Backoff, Exited, Stopped:
		if !m.closing {
			m.spawn(now)
		}
	case Stopping:
		switch {
		case m.spawning:
			m.arm(now.up + max(m.rules.stopwait, restartFloor))
		case m.left != nil:
			m.do(action{kind: doSignalRest, signal: syscall.SIGKILL})
			m.arm(now.up + max(m.rules.stopwait, restartFloor))
		default:
			m.signalNext(now)
		}
	}
}
