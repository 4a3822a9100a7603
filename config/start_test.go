package config

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const startYAML = `users:
- name: ${DEEPVAC_USER}
  uid: ${PUID:-1000}
  gid: ${PGID:-1000}
  groups: [video]
  password_env: DEEPVAC_PASSWORD
  sudo: true
seed:
- {from: "/opt/seed/home", to: "/home/${DEEPVAC_USER}", owner: "${DEEPVAC_USER}:100", mode: "0750"}
hooks:
- {name: init, command: 'test -d "${HOME}" && echo $USER', timeout: 5m}
- {name: mine, command: [bash, "/mnt/${DEEPVAC_USER}/init.sh", "$HOME", "$${HOME}"], if_exists: "/mnt/${DEEPVAC_USER}/init.sh", background: true}
`

func TestUsersSeedAndHooks(t *testing.T) {
	c, err := Parse("f", []byte(startYAML), Options{Env: []string{"DEEPVAC_USER=desk", "PUID="}})
	if err != nil {
		t.Fatal(err)
	}
	u := c.Users[0]
	if u.Name != "desk" || u.UID != "1000" || u.GID != "1000" || u.PasswordEnv != "DEEPVAC_PASSWORD" || !u.Sudo {
		t.Errorf("user: %+v", u)
	}
	if s := c.Seed[0]; s.To != "/home/desk" || s.Owner != "desk:100" || s.Mode != "0750" || s.Required {
		t.Errorf("seed: %+v", s)
	}
	h := c.Hooks[0]
	if h.Line() != `test -d "${HOME}" && echo $USER` || h.Timeout != 5*time.Minute || h.OnError != "fail" {
		t.Errorf("hook: %+v", h)
	}
	if want := []string{"bash", "/mnt/desk/init.sh", "$HOME", "${HOME}"}; !slices.Equal(c.Hooks[1].Command, want) {
		t.Errorf("got %q, want %q", c.Hooks[1].Command, want)
	}
	again, err := Parse("again", []byte(c.YAML()), Options{})
	if err != nil || again.YAML() != c.YAML() {
		t.Errorf("what was printed is not read again: %v\n%s", err, c.YAML())
	}
}

func TestUsersSeedAndHooksProblems(t *testing.T) {
	for yaml, want := range map[string]string{
		"users: [{name: 'a:b'}]":                                 `f:1: users[0].name: "a:b" is no name of a user or group`,
		"users: [{name: '${NOSUCH}'}]":                           `f:1: users[0].name: names the variable NOSUCH, which is not set; ${NOSUCH:-x} gives it a default`,
		"users: [{name: '${NOSUCH'}]":                            `has a ${ without a }`,
		"users: [{name: '${A B}'}]":                              `${A B} does not name a variable`,
		"users: [{name: ''}]":                                    `f:1: users[0].name: is empty; want a user's name`,
		"users: [{name: a, uid: -1}]":                            `f:1: users[0].uid: "-1" is not a number from 0 to 4294967294`,
		"users: [{name: a, home: b}]":                            `f:1: users[0].home: "b" is a relative path`,
		"users: [{name: a}, {name: a}]":                          `f:1: users[1].name: "a" is the name of users[0] too`,
		"users: [{name: a, password_env: 1x}]":                   `f:1: users[0].password_env: "1x" is not the name of a variable`,
		"users: [{name: a, password_env: X, password_file: /x}]": `f:1: users[0].password_env: is set beside password_file; want one of them`,
		"seed: [{from: /a}]":                                     `f:1: seed[0].to: is missing`,
		"seed: [{from: /a, to: /a/b}]":                           `f:1: seed[0].to: "/a/b" and seed[0].from ("/a") lie in each other`,
		"seed: [{from: /a, to: /b}, {from: /c, to: /b/}]":        `f:1: seed[1].to: "/b/" is that of seed[0] too`,
		"seed: [{from: /a, to: /b, owner: 'x:'}]":                `f:1: seed[0].owner: "x:" is not user, user:group or their numbers`,
		"seed: [{from: /a, to: /b, mode: 9}]":                    `f:1: seed[0].mode: "9" is not a mode such as 0750`,
		"files: [{to: /a}]":                                      `f:1: files[0]: want from or from_env, and one of them only`,
		"files: [{to: /a, from: /b, from_env: C}]":               `f:1: files[0]: want from or from_env, and one of them only`,
		"hooks: [{name: a}]":                                     `f:1: hooks[0].command: is missing`,
		"hooks: [{name: a, command: []}]":                        `f:1: hooks[0].command: is empty; want a list of words, or one line`,
		"hooks: [{name: a, command: ' '}]":                       `f:1: hooks[0].command: is empty; want a list of words, or one line`,
		`hooks: [{name: a, command: [b, "c\0d"]}]`:               `f:1: hooks[0].command: holds a NUL byte`,
		"users: [{name: '${A:-${B}}'}]":                          `f:1: users[0].name: "${A:-${B" has a variable in the default of another, which is not read`,
		"files: [{to: /a, from: /b, mode: ''}]":                  `f:1: files[0].mode: is empty; want a mode such as 0644`,
		"hooks: [{name: a b, command: x}]":                       `f:1: hooks[0].name: "a b" is no name for a hook`,
		"hooks: [{name: a, command: {b: c}}]":                    `f:1: hooks[0].command: is a map; want a list`,
		"hooks: [{name: a, command: x}, {name: a, command: y}]":  `f:1: hooks[1].name: "a" is the name of hooks[0] too`,
	} {
		_, err := Parse("f", []byte(yaml), Options{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%s:\ngot  %v\nwant %s", yaml, err, want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"", "${A}", "${A:-b}", "$${A}", "$$${A}", "${", "${A", "$A ${B}", "${:-x}", "${A:-${B}}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out, msg := expand(s, map[string]string{"A": "1", "B": ""})
		if msg != "" {
			return
		}
		if again, msg := expand(strings.ReplaceAll(out, "${", "$${"), nil); msg != "" || again != out {
			t.Errorf("%q becomes %q, which becomes %q (%s)", s, out, again, msg)
		}
	})
}
