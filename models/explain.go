package models

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"
)

// explanation is what the body of an error says: S3's XML, a registry's JSON, or the first line of a text.
func explanation(text []byte) string {
	code, message := "", ""
	_ = elements(bytes.NewReader(text), func(path, text string) error {
		switch path {
		case "Error/Code":
			code = text
		case "Error/Message":
			message = text
		}
		return nil
	}) // what is no XML says nothing here
	if code != "" {
		return " (" + strings.TrimSuffix(oneLine(code+": "+message), ":") + ")"
	}
	var registry struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(text, &registry) == nil && len(registry.Errors) > 0 {
		return " (" + oneLine(registry.Errors[0].Code+": "+registry.Errors[0].Message) + ")"
	}
	line := oneLine(string(text))
	if line == "" || strings.HasPrefix(line, "<") {
		return ""
	}
	return " (" + line + ")"
}

func oneLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	const most = 160
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strings.TrimSpace(s)
}
