// Package e2e holds the black-box tests: the built inpod binary beside the real peers.
//
// The differential test runs each testdata/*.ini under Python supervisord and under inpod and compares
// what a user can see of the two. How a case is written is said in testdata/README.md, why the harness is
// as it is in docs/decisions/070-e2e.md. With E2E_SELF=1 both sides are Python supervisord: what
// differs then is the harness's fault.
package e2e
