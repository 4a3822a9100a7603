package sshd

import "fmt"

// noShell is what somebody reads who logs in to an image that has none.
const noShell = "this image has no shell; sftp and scp work, and ssh HOST /PATH/OF/A/PROGRAM runs a program of it"

// needsShell tells what in a command only a shell can do; "" for words in quotes and without. A program that got these as
// arguments would do something else than what was asked for, and without a word about it.
func needsShell(command string) string {
	quote, escaped := rune(0), false
	runes := []rune(command)
	for i, r := range runes {
		switch {
		case escaped:
			escaped = false
		case r == '\\' && quote != '\'':
			escaped = true
		case quote == '\'' || quote == '"' && r != '$' && r != '`':
			if r == quote {
				quote = 0
			}
		case quote == 0 && (r == '\'' || r == '"'):
			quote = r
		case quote == '"' && r == quote:
			quote = 0
		default:
			switch r {
			case '$':
				if i+1 < len(runes) && runes[i+1] != ' ' && runes[i+1] != '"' {
					return "$"
				}
			case '`', '|', '&', ';', '<', '>', '(', ')', '\n':
				return string(r)
			}
		}
	}
	return ""
}

// checkNoShell is the error of a command that cannot be run without a shell.
func checkNoShell(command string) error {
	if what := needsShell(command); what != "" {
		return fmt.Errorf("this image has no shell, and only a shell knows what %q means: a program and its arguments can be run", what)
	}
	return nil
}
