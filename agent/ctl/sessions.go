package ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"
)

const pathSessions = "/api/v1/sessions"

// connection is what the admin API tells about a login.
type connection struct {
	ID       uint64    `json:"id"`
	User     string    `json:"user"`
	From     string    `json:"from"`
	Method   string    `json:"method"`
	Since    time.Time `json:"since"`
	Idle     float64   `json:"idle_seconds"`
	Forwards int       `json:"forwards"`
	Sessions []struct {
		Kind    string `json:"kind"`
		Command string `json:"command"`
		TTY     string `json:"tty"`
		PID     int    `json:"pid"`
	} `json:"sessions"`
}

// sessions lists who is logged in, one session a line, or ends a connection.
func (c *Controller) sessions(ctx context.Context, arg string) error {
	words := strings.Fields(arg)
	kill := len(words) == 2 && words[0] == "kill"
	if len(words) > 0 && !kill {
		c.fail(exitInvalidArgs, "Error: sessions accepts only kill <id>")
		c.output(helpOf("sessions"))
		return nil
	}
	server, err := c.connect()
	if err != nil {
		return c.plainError(ctx, err)
	}
	if kill {
		if _, err := admin(ctx, server, http.MethodPost, pathSessions+"/"+url.PathEscape(words[1])+"/kill"); err != nil {
			return c.plainError(ctx, fmt.Errorf("cannot end the session: %w", err))
		}
		c.output(words[1] + ": killed")
		return nil
	}
	body, err := admin(ctx, server, http.MethodGet, pathSessions)
	if err != nil {
		return c.plainError(ctx, fmt.Errorf("cannot get the sessions: %w", err))
	}
	var list []connection
	if err := json.Unmarshal(body, &list); err != nil {
		return c.plainError(ctx, fmt.Errorf("cannot read the sessions: %w", err))
	}
	if len(list) > 0 {
		c.output(sessionTable(list))
	}
	return nil
}

func sessionTable(list []connection) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tUSER\tFROM\tLOGIN\tSINCE\tIDLE\tTTY\tPID\tWHAT")
	for _, c := range list {
		head := fmt.Sprintf("%d\t%s\t%s\t%s\t%s\t%s", c.ID, c.User, c.From, c.Method, c.Since.Local().Format("01-02 15:04"),
			(time.Duration(c.Idle) * time.Second).String())
		for _, s := range c.Sessions {
			pid, tty, what := "-", "-", s.Kind
			if s.PID > 0 {
				pid = fmt.Sprint(s.PID)
			}
			if s.TTY != "" {
				tty = strings.TrimPrefix(s.TTY, "/dev/")
			}
			if s.Command != "" {
				what += ": " + oneLine(s.Command)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", head, tty, pid, what)
		}
		if len(c.Sessions) == 0 || c.Forwards > 0 {
			fmt.Fprintf(w, "%s\t-\t-\tforwarding (%d)\n", head, c.Forwards)
		}
	}
	w.Flush()
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// oneLine keeps what clients sent from moving the cursor about.
func oneLine(s string) string {
	const most = 80
	r := []rune(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s))
	if len(r) > most {
		return string(r[:most]) + "…"
	}
	return string(r)
}
