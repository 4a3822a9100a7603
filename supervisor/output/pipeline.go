package output

import (
	"bytes"
	"time"
)

// handle takes one read through capture, stripping and the targets; s.lock is held.
func (s *Stream) handle(data []byte) {
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
		s.armTimer()
	}
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
	out := block
	if s.opt.Format != "" {
		scratch := s.hub.formatted.Get().(*[]byte)
		defer s.hub.formatted.Put(scratch)
		*scratch = s.appendFormatted((*scratch)[:0], block, partial)
		out = *scratch
	}
	for _, t := range s.byLine {
		if _, ok := t.(*syslogTarget); ok {
			s.put(t, block)
		} else {
			s.put(t, out)
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
	if !s.closed {
		s.lines.flush(s.emit, true)
	}
}

// flush lets out everything that was held back, at the end.
func (s *Stream) flush() {
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.capture != nil {
		s.capture.flush(s.record)
	}
	s.lines.flush(s.emit, false)
}
