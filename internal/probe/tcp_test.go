package probe

import (
	"net"
	"testing"

	"github.com/inpod/inpod/internal/testport"
)

func TestTCP(t *testing.T) {
	open := rawServer(t, "")
	_, port, err := net.SplitHostPort(open)
	if err != nil {
		t.Fatal(err)
	}
	closed := testport.Closed(t)
	for addr, want := range map[string]string{
		open: "", port: "", ":" + port: "", "localhost:" + port: "",
		closed: "connect to " + closed + ": connection refused",
	} {
		check, err := TCP(addr)
		if err != nil {
			t.Fatal(err)
		}
		says(t, check.Check(within(t, patience)), want)
	}
}

func TestTCPTargets(t *testing.T) {
	tests := []struct{ addr, want string }{
		{"8000", "connect to 127.0.0.1:8000"},
		{":8000", "connect to 127.0.0.1:8000"},
		{"[::1]:8000", "connect to [::1]:8000"},
		{"db:5432", "connect to db:5432"},
		{"", `cannot read "" as HOST:PORT or PORT`},
		{"db", `cannot read "db" as HOST:PORT or PORT`},
		{"0", `cannot read "0" as HOST:PORT or PORT`},
		{"db:70000", `cannot read "db:70000" as HOST:PORT or PORT`},
		{"http://db:1", `cannot read "http://db:1" as HOST:PORT or PORT`},
	}
	for _, test := range tests {
		check, err := TCP(test.addr)
		if err != nil {
			says(t, err, test.want)
		} else if check.String() != test.want {
			t.Errorf("%q: got %q, want %q", test.addr, check, test.want)
		}
	}
}
