package archtest

// table says which of our own packages a package may import. A package that is not in it fails the test, so that a
// new one is a decision and not an accident.
var table = map[string][]string{
	"config":            {},
	"internal/archtest": {},
	"internal/listen":   {},
	"internal/proc":     {},
	"internal/probe":    {"internal/proc"},
	"internal/testport": {},
	"internal/trust":    {},
	"metrics":           {"config"},
	"models":            {"config", "internal/trust"},
	"proxy":             {"config", "internal/listen", "proxy/http1", "proxy/poll"},
	"proxy/http1":       {},
	"proxy/poll":        {},

	"supervisor/ini":    {},
	"supervisor/output": {},
	"supervisor":        {"config", "internal/proc", "internal/probe", "supervisor/ini", "supervisor/output"},
	"supervisor/xmlrpc": {"supervisor", "supervisor/ini"},

	"sshd":       {"config", "internal/listen", "sshd/files", "sshd/scp", "sshd/sftp", "sshd/wire"},
	"sshd/files": {},
	"sshd/scp":   {"sshd/files"},
	"sshd/sftp":  {"sshd/files"},
	"sshd/wire":  {},

	"agent/ctl":   {"config", "supervisor", "supervisor/ini", "supervisor/xmlrpc"},
	"boot/blocks": {"internal/trust"},
	"boot/seed":   {"internal/trust"},
	"boot/users":  {"boot/seed", "config", "internal/trust"},
	"boot/hooks":  {"config", "internal/proc"},

	"agent": {
		"agent/ctl", "boot/blocks", "boot/hooks", "boot/seed", "boot/users", "config", "internal/listen", "internal/proc", "internal/probe", "metrics",
		"models", "proxy", "sshd", "supervisor", "supervisor/ini", "supervisor/output", "supervisor/xmlrpc",
	},
	"cmd/inpod": {"agent", "agent/ctl", "config", "sshd/files", "sshd/scp", "sshd/sftp"},

	"injector":           {"config"},
	"cmd/inpod-injector": {"injector"},
}

// black lists the trees of black-box tests: they see what users see, and may use what is theirs and the shapes of
// the wire.
var black = map[string][]string{
	"e2e":   {"e2e", "supervisor", "supervisor/xmlrpc"},
	"bench": {"bench", "e2e", "supervisor", "supervisor/xmlrpc"},

	"examples": {"examples", "e2e"},
	"images":   {"images"},                   // their linter runs docker
	"docs":     {"config", "supervisor/ini"}, // the reference is held against the code
	"charts":   {"charts"},
	"hack":     {"hack"},
}

// owner says which trees may import a foreign package, by its path's beginning. Test files are free.
var owner = map[string][]string{
	"github.com/valyala/fasthttp": {"proxy"},
	"golang.org/x/crypto/ssh":     {"sshd"},
	"oras.land/oras-go/":          {"models"},
	"github.com/aws/":             {"models"},
	"github.com/pkg/sftp":         {"sshd"},
	"k8s.io/":                     {"injector", "cmd/inpod-injector", "hack/kube"},
	"sigs.k8s.io/":                {"injector", "cmd/inpod-injector"},
	"github.com/spf13/":           {"cmd"},

	"github.com/google/go-containerregistry": {"injector", "cmd/inpod-injector"},
	"github.com/google/nftables":             {"injector"},
}

// without says what a binary must not hold, however it would get there.
var without = map[string][]string{
	// The last two for their size (docs/decisions/101-size.md).
	"cmd/inpod":          {"k8s.io/", "sigs.k8s.io/", "github.com/valyala/fasthttp", "github.com/prometheus/client_golang/prometheus/promhttp"},
	"cmd/inpod-injector": {"github.com/valyala/fasthttp", "golang.org/x/crypto/ssh"},
}

// spawning lists what only internal/proc may call, because it starts, reaps or signals by process identifier. The
// empty name is the whole package. Black-box tests and other test files are free.
var spawning = map[string][]string{
	"os/exec":               {""},
	"os":                    {"StartProcess", "FindProcess"},
	"syscall":               {"Wait4", "ForkExec", "StartProcess", "Kill"},
	"golang.org/x/sys/unix": {"Wait4", "Waitid", "Kill", "PidfdOpen", "PidfdSendSignal"},
}

// fields that nobody may set: a parent-death signal comes when a thread of ours ends, which the runtime decides.
var fields = []string{"Pdeathsig"}

// mutable names the package variables that may change, with the reason.
var mutable = map[string]string{
	"internal/proc.running": "the kernel gives a process one wait queue; this is its lock",
}

const (
	maxFile     = 500 // lines
	maxFunc     = 100
	maxTestFunc = 250 // a table of cases is long and simple
	longFunc    = 80  // reported, not refused
)
