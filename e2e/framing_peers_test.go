package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/inpod/inpod/e2e/framing"
	"github.com/inpod/inpod/e2e/lab"
)

// peer is another proxy in front of upstreams of its own.
type peer struct {
	name string
	side *framingSide
	stop func()
}

// startPeer starts one with a configuration file, and waits until it listens.
func startPeer(t *testing.T, name string, side *framingSide, conf string, argv ...string) peer {
	t.Helper()
	if _, err := os.Stat(argv[0]); err != nil {
		t.Fatalf("cannot find %s, which hack/install.sh installs: %v", name, err)
	}
	dir := shortDir(t)
	file := filepath.Join(dir, name+".conf")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(conf, "DIR", dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	for i := range argv {
		argv[i] = strings.ReplaceAll(argv[i], "CONF", file)
	}
	d, err := lab.Start(dir, baseEnv(), argv...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Kill)
	reachable := func(addr string) bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	last := side.front[len(side.front)-1]
	if !lab.Until(patience, func() bool { return d.Exited() || reachable(last) }) || d.Exited() {
		t.Fatalf("%s does not listen on %s:\n%s", name, last, tailOf(d.Output(), 3000))
	}
	return peer{name, side, func() {
		_ = d.Signal(syscall.SIGTERM)
		d.WaitExit(patience)
		d.Kill()
	}}
}

func startNginx(t *testing.T, side *framingSide) peer {
	t.Helper()
	var conf strings.Builder
	conf.WriteString(`daemon off; master_process off; pid DIR/pid; error_log stderr crit;
events { worker_connections 8192; }
http {
access_log off; client_max_body_size 0; client_body_temp_path DIR/body; proxy_temp_path DIR/proxy;
fastcgi_temp_path DIR/fastcgi; uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi;
proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
`)
	for i, front := range side.front {
		fmt.Fprintf(&conf, "upstream u%d { server %s; keepalive 4; }\n", i, side.echo[i].Addr())
		fmt.Fprintf(&conf, "server { listen %s; location / { proxy_pass http://u%d; } }\n", front, i)
	}
	conf.WriteString("}\n")
	return startPeer(t, "nginx", side, conf.String(), "/usr/sbin/nginx", "-c", "CONF", "-e", "stderr")
}

func startHAProxy(t *testing.T, side *framingSide) peer {
	t.Helper()
	var conf strings.Builder
	conf.WriteString("global\n  maxconn 1000\ndefaults\n  mode http\n  timeout connect 10s\n  timeout client 30s\n  timeout server 30s\n")
	for i, front := range side.front {
		fmt.Fprintf(&conf, "listen l%d\n  bind %s\n  server s %s\n", i, front, side.echo[i].Addr())
	}
	return startPeer(t, "haproxy", side, conf.String(), "/usr/sbin/haproxy", "-db", "-f", "CONF")
}

// logPeers says where others do not do as inpod does. Nobody is wrong for that; it shows what the rules are worth.
func logPeers(t *testing.T, cases []*framing.Case, inpod []string, peers []peer) {
	t.Helper()
	var table strings.Builder
	differ, odd := map[string]int{}, map[string]int{}
	for i, c := range cases {
		row, same := fmt.Sprintf("%-50s inpod %-16s", c.Name, inpod[i]), true
		for _, p := range peers {
			conns, got := p.side.echo[i].Stop()
			says := p.side.heard[i]
			// What they answer is their business; what they pass on is compared.
			forwards := len(got)
			wants := len(c.Requests)
			if forwards != wants || !sameRequests(c, got) {
				same = false
				differ[p.name]++
			}
			for _, g := range got {
				says += " → " + g.String()
			}
			if faults := wantUnambiguous(c, conns); len(faults) > 0 {
				same = false
				odd[p.name]++
				says += " AMBIGUOUS: " + faults[0]
			}
			row += fmt.Sprintf(" | %s %.200s", p.name, strings.ReplaceAll(says, "\n", `\n`))
		}
		if !same {
			table.WriteString(row + "\n")
		}
	}
	for _, p := range peers {
		t.Logf("%s passes on something else than inpod in %d of %d cases, in %d something that can be read in two ways",
			p.name, differ[p.name], len(cases), odd[p.name])
	}
	t.Logf("where the others differ:\n%s", table.String())
}

func sameRequests(c *framing.Case, got []*framing.Got) bool {
	for i, w := range c.Requests {
		if i >= len(got) || got[i].Method != w.Method || got[i].Target != w.Target || got[i].Body != w.Body {
			return false
		}
	}
	return true
}
