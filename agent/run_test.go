package agent

import (
	"context"
	"os"
	"strings"
	"testing"
)

// The agent owns its process: signals, children, the exit code. So the tests run this binary again as an agent.
const asAgent = "INPOD_TEST_RUN_AGENT"

func TestMain(m *testing.M) {
	if args, ok := os.LookupEnv(asAgent); ok {
		os.Unsetenv(asAgent)
		opts := Options{Version: "1.2.3", Commit: "abc"}
		fields := strings.Fields(args)
		for i, f := range fields {
			switch f {
			case "-c":
				opts.SupervisordConf = fields[i+1]
			case "--config":
				opts.ConfigFile = fields[i+1]
			case "--":
				opts.Main = fields[i+1:]
			}
			if f == "--" {
				break
			}
		}
		os.Exit(Run(context.Background(), opts))
	}
	os.Exit(m.Run())
}
