package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSSHUsers(t *testing.T) {
	c, err := parse(t, `ssh:
  listen: ":22"
  client_alive_interval: 30m
  users:
  - {name: airlock, password_file: /run/secrets/airlock, root: /opt/public/airlock, access: read-write, sftp_only: true, quota: 100Gi}
  - {name: drop, authorized_keys: [/k], root: /d, access: read-only, paths: [{path: /in, access: write-only}]}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []SSHUser{
		{
			Name: "airlock", PasswordFile: "/run/secrets/airlock", AuthorizedKeys: []string{}, Root: "/opt/public/airlock",
			Access: "read-write", SFTPOnly: true, Quota: 100 << 30, Paths: []SSHPath{},
		},
		{
			Name: "drop", AuthorizedKeys: []string{"/k"}, Root: "/d", Access: "read-only", SFTPOnly: true,
			Paths: []SSHPath{{Path: "/in", Access: "write-only"}},
		},
	}
	if diff := cmp.Diff(want, c.SSH.Users); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	if c.SSH.ClientAliveInterval != 30*time.Minute || !c.SSH.ListenSet {
		t.Errorf("interval %s, set %v; want 30m, true", c.SSH.ClientAliveInterval, c.SSH.ListenSet)
	}
}

func TestSSHPort(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		env        []string
		uid        int
		want       string
	}{
		{"root", "", nil, 0, ":22"},
		{"somebody", "", nil, 7, ":2222"},
		{"the file says", "ssh: {listen: '127.0.0.1:22'}", nil, 7, "127.0.0.1:22"},
		{"SSH_PORT", "", []string{"SSH_PORT=30022"}, 7, ":30022"},
		{"SSH_PORT wins over the file's port", "ssh: {listen: '127.0.0.1:22'}", []string{"SSH_PORT=30022"}, 0, "127.0.0.1:30022"},
		{"ours wins over SSH_PORT", "", []string{"SSH_PORT=30022", "INPOD_SSH_LISTEN=:23"}, 0, ":23"},
		{"a Service called ssh", "", []string{"SSH_PORT=tcp://10.0.0.1:22"}, 0, ":22"},
		{"off stays off", "ssh: {listen: off}", []string{"SSH_PORT=30022"}, 0, "off"},
	} {
		c, err := Parse("inpod.yaml", []byte(tt.text), Options{Env: tt.env, UID: tt.uid})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		} else if c.SSH.Listen != tt.want {
			t.Errorf("%s: listen = %q, want %q", tt.name, c.SSH.Listen, tt.want)
		}
	}
}

func TestKeysOfTheEnvironmentAreNoMistake(t *testing.T) {
	c, err := parse(t, "", "INPOD_AUTHORIZED_KEYS=ssh-ed25519 AAAA me")
	if err != nil {
		t.Fatal(err)
	}
	if c.SSH.EnvKeys != "ssh-ed25519 AAAA me" || len(c.Warnings) > 0 {
		t.Errorf("keys %q, warnings %v", c.SSH.EnvKeys, c.Warnings)
	}
}

func TestSSHProblems(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{
			"paths of keys", "ssh: {authorized_keys: ['.ssh/keys', '%x/k', '%h/.ssh/authorized_keys', '']}",
			`inpod.yaml:1: ssh.authorized_keys[0]: ".ssh/keys" is a relative path; want an absolute one, or %h/.ssh/keys for the home directory
inpod.yaml:1: ssh.authorized_keys[1]: "%x/k" has a % that is none of %h, %u and %%
inpod.yaml:1: ssh.authorized_keys[3]: is empty; want a path`,
		},
		{
			"permits", "ssh: {permit_local_forward: ['*:*', '[::1]:22', '10.0.0.0/8:80-90', /run/*.sock, '10.0.0/8:1', 'h', 'h:90-80', 'h:x', '::1:22']}",
			`inpod.yaml:1: ssh.permit_local_forward[4]: "10.0.0/8" is not a network such as 10.0.0.0/8
inpod.yaml:1: ssh.permit_local_forward[5]: "h" is not host:port, such as 127.0.0.1:*, nor a path
inpod.yaml:1: ssh.permit_local_forward[6]: "h:90-80" has no valid port; want *, a number or a range such as 8000-8999
inpod.yaml:1: ssh.permit_local_forward[7]: "h:x" has no valid port; want *, a number or a range such as 8000-8999
inpod.yaml:1: ssh.permit_local_forward[8]: "::1:22" is not host:port, such as 127.0.0.1:*, nor a path`,
		},
		{
			"users", `ssh:
  users:
  - {name: a, password_file: /p, root: /r, sftp_only: false}
  - {name: a, password_file: /p, quota: 1Gi}
  - {name: "b c", root: /r}
  - {name: d, authorized_keys: [/k], root: /r, access: all}`,
			`inpod.yaml:3: ssh.users[0].sftp_only: is false, but a user with a root has only files; leave one of the two out
inpod.yaml:4: ssh.users[1].name: "a" is the name of ssh.users[0] too
inpod.yaml:4: ssh.users[1].quota: is set without root; a quota counts what is below root
inpod.yaml:5: ssh.users[2].name: "b c" is not a user name
inpod.yaml:5: ssh.users[2]: has neither password_file nor authorized_keys, so "b c" could never log in
inpod.yaml:6: ssh.users[3].access: "all" is not one of read-only, write-only, read-write`,
		},
		{
			"addresses", "ssh: {listen: ':9880'}\nproxy: {routes: [{listen: ':9880', upstream: 'a:1', path: /x}]}",
			`inpod.yaml:1: ssh.listen: ":9880" is taken by admin.listen (":9880")
inpod.yaml:2: proxy.routes[0].listen: ":9880" is taken by admin.listen (":9880")
inpod.yaml:2: proxy.routes[0].listen: ":9880" is taken by ssh.listen (":9880")`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(t, tt.text)
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}
