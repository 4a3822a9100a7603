package ctl

import (
	"encoding/json"
	"testing"
	"time"
)

func TestSessionTable(t *testing.T) {
	var list []connection
	err := json.Unmarshal([]byte(`[
		{"id": 7, "user": "root", "from": "10.0.0.9:4711", "method": "publickey", "idle_seconds": 61.5, "sessions": [
			{"kind": "shell", "tty": "/dev/pts/0", "pid": 12}, {"kind": "exec", "command": "ls\u001b[2J\nx", "pid": 13}]},
		{"id": 12, "user": "airlock", "from": "[::1]:9", "method": "password", "forwards": 2, "sessions": [{"kind": "sftp"}]},
		{"id": 13, "user": "root", "from": "[::1]:10", "method": "certificate", "sessions": []}]`), &list)
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		list[i].Since = time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	}
	want := `ID  USER     FROM           LOGIN        SINCE        IDLE  TTY    PID  WHAT
7   root     10.0.0.9:4711  publickey    01-02 03:04  1m1s  pts/0  12   shell
7   root     10.0.0.9:4711  publickey    01-02 03:04  1m1s  -      13   exec: ls [2J x
12  airlock  [::1]:9        password     01-02 03:04  0s    -      -    sftp
12  airlock  [::1]:9        password     01-02 03:04  0s    -      -    forwarding (2)
13  root     [::1]:10       certificate  01-02 03:04  0s    -      -    forwarding (0)`
	if got := sessionTable(list); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
