package scp

import (
	"strings"
)

// Plain tells whether every shell of Bourne's kind makes the same words of a command as Parse does: there is nothing in
// it to expand but a tilde. Patterns, variables and the rest are for the user's own shell.
func Plain(command string) bool {
	quote, begun := byte(0), false
	for i := 0; i < len(command); i++ {
		ch := command[i]
		switch {
		case quote == '\'':
			if ch == quote {
				quote = 0
			}
		case quote == '"':
			if strings.IndexByte("$`\\!", ch) >= 0 {
				return false
			}
			if ch == quote {
				quote = 0
			}
		case ch == ' ' || ch == '\t':
			begun = false
			continue
		case ch == '\'' || ch == '"':
			quote = ch
		case ch == '\\':
			if i++; i == len(command) || command[i] == '\n' {
				return false
			}
		case ch == '~':
			if begun || i+1 < len(command) && strings.IndexByte(" \t/", command[i+1]) < 0 {
				return false
			}
		case ch == '=':
			if !begun { // zsh looks for a command of that name
				return false
			}
		case !literal(ch):
			return false
		}
		begun = true
	}
	return quote == 0
}

// literal are the bytes that mean themselves without quotes.
func literal(ch byte) bool {
	switch {
	case 'a' <= ch && ch <= 'z', 'A' <= ch && ch <= 'Z', '0' <= ch && ch <= '9', ch >= 0x80:
		return true
	}
	return strings.IndexByte("_./,:+@%-", ch) >= 0
}
