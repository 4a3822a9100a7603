package supervisor

import (
	"fmt"
	"os"

	"github.com/inpod/inpod/internal/proc"
)

// setUser puts user= into spec. It returns what Supervisor's child says when it cannot become that user, or "".
// HOME and USER stay as they are (supervisord.org/subprocess.html#subprocess-environment).
func (p *process) setUser(spec *proc.Spec) string {
	uid, gid := p.cfg.UID, p.cfg.GID
	if uid < 0 || uid == os.Geteuid() && (gid < 0 || gid == os.Getegid()) {
		return ""
	}
	if os.Geteuid() != 0 {
		return fmt.Sprintf("couldn't setuid to %d: Can't drop privilege as nonroot user", uid)
	}
	spec.Groups = p.cfg.Groups
	if gid < 0 {
		if len(spec.Groups) == 0 {
			return fmt.Sprintf("couldn't setuid to %d: Can't find uid %d", uid, uid)
		}
		gid = spec.Groups[0]
	}
	if len(spec.Groups) == 0 {
		spec.Groups = []int{gid} // never the agent's own
	}
	spec.UID, spec.GID = uid, gid
	return ""
}
