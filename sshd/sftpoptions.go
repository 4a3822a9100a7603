package sshd

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/inpod/inpod/sshd/files"
)

// sftpOptions applies what a command line says of internal-sftp or sftp-server (sftp-server(8)). It may be there to forbid
// something, so that what is not understood is an error and never left out.
func sftpOptions(command string, u *account, opts *files.Options) error {
	if what := needsShell(command); what != "" {
		return fmt.Errorf("sftp-server runs without a shell, and only a shell knows what %q means", what)
	}
	words := splitCommand(command)
	if len(words) == 0 {
		return nil
	}
	for words = words[1:]; len(words) > 0; words = words[1:] {
		letters, isOption := strings.CutPrefix(words[0], "-")
		if !isOption || letters == "" || letters == "-" {
			return fmt.Errorf("sftp-server takes no argument %q", words[0])
		}
		for letters != "" {
			letter := letters[0]
			letters = letters[1:]
			if !strings.ContainsRune("lfdu", rune(letter)) {
				if err := sftpFlag(letter, opts); err != nil {
					return err
				}
				continue
			}
			// The value is the rest of the word, or the next one (getopt(3)).
			if letters == "" {
				if len(words) == 1 {
					return fmt.Errorf("option -%c of sftp-server has no value", letter)
				}
				words = words[1:]
				letters = words[0]
			}
			if err := sftpValue(letter, letters, u, opts); err != nil {
				return err
			}
			letters = ""
		}
	}
	return nil
}

func sftpFlag(letter byte, opts *files.Options) error {
	switch letter {
	case 'e': // to log to standard error: the log is the agent's
	case 'R':
		opts.Access &= files.ReadOnly
		opts.Paths = slices.Clone(opts.Paths)
		for i := range opts.Paths {
			opts.Paths[i].Access &= files.ReadOnly
		}
	default:
		return fmt.Errorf("option -%c of sftp-server is not supported here: want -R, -d, -u, -e, -l or -f", letter)
	}
	return nil
}

func sftpValue(letter byte, value string, u *account, opts *files.Options) error {
	switch letter {
	case 'd':
		if strings.HasPrefix(value, "~") {
			return errors.New("option -d of sftp-server: want %d for the home directory instead of ~")
		}
		dir := strings.NewReplacer("%%", "%", "%d", opts.Home, "%u", u.name).Replace(value)
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(opts.Home, dir)
		}
		opts.Home = filepath.Clean(dir)
	case 'u':
		mask, err := strconv.ParseUint(value, 8, 32)
		if err != nil || mask > 0o777 {
			return fmt.Errorf("option -u of sftp-server: %q is no umask", value)
		}
		if own := files.OwnUmask(); own&^uint32(mask) != 0 {
			return fmt.Errorf("option -u of sftp-server: %04o allows more than the agent's own umask, %04o", mask, own)
		}
		opts.Umask |= uint32(mask)
	}
	return nil // -l and -f are about a log that is not here
}
