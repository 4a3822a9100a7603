package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// The values of stdout_format.
const (
	FormatRaw  = "raw"  // "name | line"
	FormatJSON = "json" // {"time":…,"program":…,"stream":…,"msg":…}
)

func checkFormat(format string) error {
	switch format {
	case "", FormatRaw, FormatJSON:
		return nil
	}
	return fmt.Errorf("cannot use stdout_format %q: it is raw or json, or absent", format)
}

// jsonLine is one line of FormatJSON. A line that is a JSON object itself is not quoted again but put under data.
type jsonLine struct {
	Time    string          `json:"time"`
	Program string          `json:"program"`
	Stream  string          `json:"stream"`
	Msg     *string         `json:"msg,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
	Partial bool            `json:"partial,omitempty"` // the line goes on in the next object
}

// appendFormatted formats the lines of block until dst has most bytes, and returns the lines that are left. Each ends
// with a newline, an unfinished one too.
func (s *Stream) appendFormatted(dst, block []byte, most int, partial bool) (out, rest []byte) {
	now := ""
	if s.opt.Format == FormatJSON {
		now = s.hub.now().UTC().Format(time.RFC3339Nano)
	}
	for len(block) > 0 && len(dst) < most {
		var line []byte
		line, block, _ = bytes.Cut(block, []byte{'\n'})
		if s.opt.Format == FormatRaw {
			dst = append(dst, s.opt.Program...)
			dst = append(dst, " | "...)
			dst = append(dst, line...)
			dst = append(dst, '\n')
			continue
		}
		dst = s.appendJSON(dst, now, bytes.TrimSuffix(line, []byte{'\r'}), partial)
	}
	return dst, block
}

func (s *Stream) appendJSON(dst []byte, now string, line []byte, partial bool) []byte {
	if !partial && plain(line) && plain([]byte(s.opt.Program)) {
		dst = append(append(dst, `{"time":"`...), now...)
		dst = append(append(dst, `","program":"`...), s.opt.Program...)
		dst = append(append(dst, `","stream":"`...), s.opt.Channel...)
		dst = append(append(dst, `","msg":"`...), line...)
		return append(dst, "\"}\n"...)
	}
	l := jsonLine{Time: now, Program: s.opt.Program, Stream: s.opt.Channel, Partial: partial}
	if trimmed := bytes.TrimSpace(line); len(trimmed) > 1 && trimmed[0] == '{' && json.Valid(trimmed) {
		l.Data = trimmed
	} else {
		msg := string(line)
		l.Msg = &msg
	}
	buf := bytes.NewBuffer(dst)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(l); err != nil {
		return dst // cannot happen: data is valid JSON and the rest are strings
	}
	return buf.Bytes()
}

// plain tells whether text is the same inside a JSON string, as most lines are: the encoder takes ten times as long.
// A brace may begin an object.
func plain(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == '{' {
			return false
		}
	}
	return true
}
