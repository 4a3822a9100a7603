package injector

import (
	"context"
	"net"
	"strings"

	"github.com/inpod/inpod/config"
)

// fileSets tells whether the agent's file has a key. What the file says counts unless somebody wrote the setting that
// is the same; our defaults, and those of profiles, do not.
func (p *plan) fileSets(key string) bool { return p.cfg != nil && p.cfg.IsSet(key) }

// adopt takes from the agent's file what ports, probes and the grace period depend on.
func (p *plan) adopt(context.Context) error {
	if p.cfg == nil {
		return nil
	}
	for _, from := range []struct{ setting, key, value string }{
		{"drain-delay", "drain.delay", p.cfg.Drain.Delay.String()},
		{"drain-deadline", "drain.deadline", p.cfg.Drain.Deadline.String()},
	} {
		if p.fileSets(from.key) && !p.opt.set(from.setting) {
			p.opt.values[from.setting] = from.value
			p.opt.filed[from.setting] = true
		}
	}
	if listen := p.cfg.Admin.Listen; p.fileSets("admin.listen") && !p.opt.set("admin-port") {
		host, port, _ := net.SplitHostPort(listen)
		_, ok := portNumber(port)
		if ip := net.ParseIP(host); !ok || host != "" && (ip == nil || !ip.IsUnspecified()) {
			return refuse(AdminHidden, p.opt.text("config"), clip(listen))
		}
		p.opt.values["admin-port"] = port
	}
	p.adoptSSH()
	return nil
}

func (p *plan) adoptSSH() {
	listen := p.cfg.SSH.Listen
	if !p.fileSets("ssh.listen") {
		return
	}
	if !p.opt.set("ssh") {
		if listen == config.Off && p.wantsSSH() {
			p.rep.warn("inpod.yaml of ConfigMap %q sets ssh.listen to off, so nobody can log in; write inpod.dev/ssh: on, or leave it out",
				p.opt.text("config"))
		}
		p.opt.values["ssh"] = on
		if listen == config.Off {
			p.opt.values["ssh"] = off
		}
	}
	_, port, _ := net.SplitHostPort(listen)
	if _, ok := portNumber(port); ok && !p.opt.set("ssh-port") {
		p.opt.values["ssh-port"] = port
	}
}

// inFile tells whether the file says already what a variable would, and nobody wrote one of the settings it is made of.
func (p *plan) inFile(v variable) bool {
	section, key, _ := strings.Cut(strings.ToLower(strings.TrimPrefix(v.name, "INPOD_")), "_")
	if !p.fileSets(section + "." + key) {
		return false
	}
	for name := range strings.FieldsSeq(v.settings) {
		if p.opt.set(name) {
			return false
		}
	}
	return true
}
