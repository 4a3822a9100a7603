// Package agent is the composition root: it puts the parts together and owns what none of them may own,
// the phase of the pod (starting, ready, draining, stopping), the signals, the admin HTTP server and reload.
//
// Enter at Run, which is `inpod run`, or at Check, which is `inpod check`. The package holds no logic of
// programs or of requests: those are the supervisor's and the proxy's.
package agent
