package examples

import (
	"bytes"
	"os"
	"testing"
	"time"
)

// The checks are in neolink/check.sh, since they run inside a private root.
func TestNeolink(t *testing.T) {
	t.Parallel()
	ctx := within(t, 6*time.Minute)
	cmd := script(ctx, append(os.Environ(), "TMPDIR="+t.TempDir()), "neolink/test.sh", inpod)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.HasSuffix(out, []byte("all checks passed\n")) {
		t.Fatalf("neolink/test.sh: %v\n%s", err, out)
	}
}
