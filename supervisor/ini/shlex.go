package ini

import (
	"errors"
	"fmt"
	"strings"
)

// shlexError is an error in the words of Python's shlex, which the text of a spawn error quotes.
type shlexError string

func (e shlexError) Error() string { return string(e) }

const (
	errNoClosing shlexError = "No closing quotation"
	errNoEscaped shlexError = "No escaped character"
)

// Split splits a command line into words as Python's shlex.split does: POSIX quoting and
// backslashes, nothing expanded.
func Split(s string) ([]string, error) {
	var words []string
	var word []byte
	inWord := false
	state := byte(0) // 0 outside quotes, or the quote that is open
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case state == 0 && strings.IndexByte(" \t\r\n", c) >= 0:
			if inWord {
				words = append(words, string(word))
				word, inWord = word[:0], false
			}
		case state == 0 && (c == '\'' || c == '"'):
			state, inWord = c, true
		case state != 0 && c == state:
			state = 0
		case c == '\\' && state != '\'':
			if i++; i == len(s) {
				return nil, errNoEscaped
			}
			if state == '"' && s[i] != '\\' && s[i] != '"' {
				word = append(word, '\\')
			}
			word, inWord = append(word, s[i]), true
		default:
			word, inWord = append(word, c), true
		}
	}
	if state != 0 {
		return nil, errNoClosing
	}
	if inWord {
		words = append(words, string(word))
	}
	return words, nil
}

// lexEnvironment cuts an environment= value into tokens as Python's shlex class does when it
// is not in POSIX mode and "/.+-():" are word characters too.
func lexEnvironment(s string) ([]string, error) {
	const outside, word = ' ', 'a'
	var tokens []string
	var token []rune
	state := rune(outside)
	emit := func() {
		tokens = append(tokens, string(token))
		token, state = nil, outside
	}
	runes := []rune(s)
	for i := 0; i < len(runes); i++ {
		c := runes[i]
		space := strings.ContainsRune(" \t\r\n", c)
		quoteMark := c == '\'' || c == '"'
		switch {
		case state == '\'' || state == '"':
			token = append(token, c)
			if c == state {
				emit()
			}
		case c == '#': // to the end of the line; a word goes on behind it
			for i < len(runes) && runes[i] != '\n' {
				i++
			}
		case state == outside && space:
		case state == outside && quoteMark:
			token, state = []rune{c}, c
		case state == outside && isEnvWord(c):
			token, state = []rune{c}, word
		case state == outside:
			token = []rune{c}
			emit()
		case space:
			emit()
		case isEnvWord(c) || quoteMark:
			token = append(token, c)
		default:
			emit()
			tokens = append(tokens, string(c))
		}
	}
	if state == '\'' || state == '"' {
		return nil, errNoClosing
	}
	if state == word {
		emit()
	}
	return tokens, nil
}

func isEnvWord(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c != 0 && strings.ContainsRune("_/.+-():", c)
}

// parseEnvironment parses KEY=val,KEY2="val 2" into a map. dropped holds tokens that stand where
// a comma should: Supervisor skips them in silence, which cuts a value such as 50% short.
func parseEnvironment(s string) (env map[string]string, dropped []string, err error) {
	tokens, err := lexEnvironment(s)
	if errors.Is(err, errNoClosing) {
		return nil, nil, errors.New(`has a quote that is not closed: want KEY="value",KEY2="value 2"`)
	}
	env = make(map[string]string, len(tokens)/4+1)
	for i := 0; i < len(tokens); i += 4 {
		if len(tokens)-i < 3 || tokens[i+1] != "=" {
			return nil, nil, fmt.Errorf(`cannot be understood from %s on: want KEY="value",KEY2="value 2"`, quote(tokens[i]))
		}
		env[tokens[i]] = strings.Trim(tokens[i+2], `'"`)
		if i+3 < len(tokens) && tokens[i+3] != "," {
			dropped = append(dropped, tokens[i+3])
		}
	}
	return env, dropped, nil
}
