package main

import (
	"fmt"
	"strings"
)

// option is one flag of supervisord or supervisorctl.
type option struct {
	short byte   // 0 = none
	long  string // "" = none
	takes bool   // an argument follows
	set   func(value string) error
}

// getopt reads flags as Python's getopt does for the tools that we stand in for: it stops at the first
// argument that is no flag, "-cFILE" and "-nk" are fine, and long names may be cut short.
func getopt(args []string, options []option) (rest []string, err error) {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") && args[0] != "-" {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return args, nil
		case strings.HasPrefix(arg, "--"):
			args, err = longOption(arg[2:], args, options)
		default:
			args, err = shortOptions(arg[1:], args, options)
		}
		if err != nil {
			return nil, err
		}
	}
	return args, nil
}

func longOption(arg string, args []string, options []option) ([]string, error) {
	name, value, given := strings.Cut(arg, "=")
	var found []option
	for _, o := range options {
		if o.long == name {
			found = []option{o}
			break
		}
		if o.long != "" && strings.HasPrefix(o.long, name) {
			found = append(found, o)
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("option --%s not recognized", name)
	case len(found) > 1:
		return nil, fmt.Errorf("option --%s not a unique prefix", name)
	case given && !found[0].takes:
		return nil, fmt.Errorf("option --%s must not have an argument", found[0].long)
	case found[0].takes && !given:
		if len(args) == 0 {
			return nil, fmt.Errorf("option --%s requires argument", found[0].long)
		}
		value, args = args[0], args[1:]
	}
	return args, found[0].apply("--"+found[0].long, value)
}

func shortOptions(cluster string, args []string, options []option) ([]string, error) {
	for i := 0; i < len(cluster); i++ {
		var found *option
		for j := range options {
			if options[j].short == cluster[i] {
				found = &options[j]
			}
		}
		flag := "-" + cluster[i:i+1]
		if found == nil {
			return nil, fmt.Errorf("option %s not recognized", flag)
		}
		if !found.takes {
			if err := found.apply(flag, ""); err != nil {
				return nil, err
			}
			continue
		}
		value := cluster[i+1:]
		if value == "" {
			if len(args) == 0 {
				return nil, fmt.Errorf("option %s requires argument", flag)
			}
			value, args = args[0], args[1:]
		}
		return args, found.apply(flag, value)
	}
	return args, nil
}

func (o option) apply(flag, value string) error {
	if err := o.set(value); err != nil {
		return fmt.Errorf("invalid value for %s '%s': %w", flag, value, err)
	}
	return nil
}

// text is the set of an option that keeps its argument.
func text(to **string) func(string) error {
	return func(s string) error { *to = &s; return nil }
}

// toggle is the set of an option without an argument.
func toggle(to *bool) func(string) error {
	return func(string) error { *to = true; return nil }
}
