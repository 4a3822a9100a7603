package agent

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// A command of a client has a session of its own, as with sshd: where the agent has a terminal (docker run -t), it must not
// wait for what is typed there, nor be able to type there itself.
func TestSSHCommandHasASessionOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	ssh := sshClient(t, dir)
	pub, err := os.ReadFile(dir + "/id.pub")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/keys", string(pub))
	port := free(t)
	write(t, dir+"/inpod.yaml", fmt.Sprintf("ssh: {host_key_dir: %s/host, password_file: '', shadow: false, authorized_keys: [%s/keys]}\n", dir, dir))
	_, number, _ := strings.Cut(port, ":")
	a := launch(t, dir, nil, "INPOD_SSH_LISTEN=", "SSH_PORT="+number).started()
	a.stdout.wait(t, `"ssh is on"`, number)
	out, err := ssh(port, `exec /bin/sh -c 'cut -d" " -f6,7 /proc/$$/stat; echo $$; (: </dev/tty) 2>/dev/null && echo a terminal'`).Output()
	ids := strings.Fields(string(out))
	if len(ids) != 3 || ids[0] != ids[2] || ids[1] != "0" {
		t.Errorf("session, terminal and process: %q (%v); want the first as the third, no terminal", out, err)
	}
	if out, err := ssh(port, "kill -TERM 0; exec sleep 100").CombinedOutput(); err == nil {
		t.Errorf("the group of a command: %q, no error", out)
	}
}
