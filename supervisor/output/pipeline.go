package output

import (
	"bytes"
	"fmt"
	"runtime/debug"
	"time"
)

// recovered, deferred, makes a panic cost one stream and not the agent: from then on what the program writes is read,
// so that the program goes on, and dropped.
func (s *Stream) recovered() {
	if v := recover(); v != nil {
		s.crashed = true
		s.hub.log.Error("BUG: please report this; the output of a program is dropped from now on", "program", s.opt.Program,
			"stream", s.opt.Channel, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	}
}

// handle takes one read through capture, stripping and the targets; s.lock is held.
func (s *Stream) handle(data []byte) {
	defer s.recovered()
	if s.crashed {
		s.hub.bytesLost.Add(uint64(len(data)))
		return
	}
	if s.opt.OnData != nil {
		s.opt.OnData(data)
	}
	if s.capture == nil {
		s.record(data)
		return
	}
	s.capture.feed(data, s.record, s.recordCaptured, s.opt.OnCapture)
}

// recordCaptured is what lies between capture tokens: Supervisor sends it as a PROCESS_LOG event too, but not to the log.
func (s *Stream) recordCaptured(data []byte) []byte {
	data = s.strip(data)
	if s.opt.OnLog != nil && len(data) > 0 {
		s.opt.OnLog(data)
	}
	return data
}

// record takes what belongs in the log.
func (s *Stream) record(data []byte) {
	if data = s.strip(data); len(data) == 0 {
		return
	}
	for _, t := range s.whole {
		s.put(t, data)
	}
	if s.opt.OnLog != nil {
		s.opt.OnLog(data)
	}
	if len(s.byLine) > 0 || s.opt.OnLine != nil {
		s.lines.feed(data, s.emit)
		if s.count(); s.hub.held.Load() > maxHeld && s.held > smallPiece {
			s.lines.flush(s.emit, true) // rather cut a line than let them add up
			s.count()
		}
		s.armTimer()
	}
}

// count tells the hub what the unfinished line takes.
func (s *Stream) count() {
	n := cap(s.lines.held)
	s.hub.held.Add(int64(n - s.held))
	s.held = n
}

func (s *Stream) strip(data []byte) []byte {
	if !s.opt.StripANSI {
		return data
	}
	return s.ansi.strip(data)
}

// emit takes whole lines, or one unfinished line when partial is set.
func (s *Stream) emit(block []byte, partial bool) {
	if s.opt.OnLine != nil {
		for rest := block; len(rest) > 0; {
			var line []byte
			line, rest, _ = bytes.Cut(rest, []byte{'\n'})
			s.opt.OnLine(line)
		}
	}
	if len(s.byLine) == 0 {
		return
	}
	if s.opt.Format == "" {
		for _, t := range s.byLine {
			s.put(t, block)
		}
		return
	}
	s.emitFormatted(block, partial)
}

// emitFormatted formats a block and writes it in pieces of about the block's size: short lines as JSON become many
// times as long. Syslog has its own form.
func (s *Stream) emitFormatted(block []byte, partial bool) {
	scratch := s.hub.buffers.takeFormatted(len(block))
	defer s.hub.buffers.putFormatted(len(block), scratch)
	most := max(len(block), smallPiece)
	for rest := block; len(rest) > 0; {
		*scratch, rest = s.appendFormatted((*scratch)[:0], rest, most, partial)
		for _, t := range s.byLine {
			if _, ok := t.(*syslogTarget); !ok {
				s.put(t, *scratch)
			}
		}
	}
	for _, t := range s.byLine {
		if _, ok := t.(*syslogTarget); ok {
			s.put(t, block)
		}
	}
}

// put writes to one target and tells of a failure when it begins and when it ends.
func (s *Stream) put(t target, block []byte) {
	err := t.write(s, block)
	bad := s.failing[t]
	if err == nil {
		if bad != nil {
			delete(s.failing, t)
			s.hub.log.Info("program output is written again", "program", s.opt.Program, "stream", s.opt.Channel,
				"target", t.name(), "lost_bytes", bad.lost)
		}
		return
	}
	lost := uint64(len(block))
	s.hub.writeErrors.Add(1)
	s.hub.bytesLost.Add(lost)
	if bad != nil {
		bad.lost += lost
		return
	}
	if s.failing == nil {
		s.failing = map[target]*failure{}
	}
	s.failing[t] = &failure{lost: lost}
	s.hub.log.Error("program output cannot be written", "program", s.opt.Program, "stream", s.opt.Channel,
		"target", t.name(), "err", err)
}

// armTimer lets an unfinished line out after a while: a prompt has no newline.
func (s *Stream) armTimer() {
	if !s.lines.pending() || s.closed {
		return
	}
	if s.timer == nil {
		s.timer = time.AfterFunc(s.hub.partialDelay, s.flushPartial)
		return
	}
	s.timer.Reset(s.hub.partialDelay)
}

func (s *Stream) flushPartial() {
	s.lock <- struct{}{}
	defer s.unlock()
	defer s.recovered()
	if !s.closed {
		s.lines.flush(s.emit, true)
		s.count()
	}
}

// flush lets out everything that was held back, at the end.
func (s *Stream) flush() {
	defer s.recovered()
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.capture != nil {
		s.capture.flush(s.record)
	}
	s.lines.flush(s.emit, false)
	s.count()
}
