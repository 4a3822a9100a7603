package ctl

import "testing"

func TestRouteTable(t *testing.T) {
	got := routeTable([]route{
		{Name: ":8080/", Upstream: "127.0.0.1:8000", Ready: true, InFlight: 3, Limit: 8, Queued: 2},
		{Name: ":8888a.example/jupyter", Upstream: "127.0.0.1:18888", Detail: "tcp 127.0.0.1:18888: connection refused"},
	})
	want := `ROUTE                   UPSTREAM         READY  IN FLIGHT  QUEUED  DETAIL
:8080/                  127.0.0.1:8000   yes    3 of 8     2
:8888a.example/jupyter  127.0.0.1:18888  no     0          0       tcp 127.0.0.1:18888: connection refused`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
