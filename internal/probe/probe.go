// Package probe checks one thing once: that an HTTP path answers well, that a TCP port takes a connection, that a
// gRPC server says that it serves, that a command ends with 0. How often, with what patience and to what end is the caller's business, as is the deadline,
// which is the context's. What counts as success is what the kubelet's probes say.
package probe

import "context"

// Check tells whether something is well. The error says what was asked, what came and what was wanted.
type Check interface {
	Check(ctx context.Context) error
	// String says what is checked, as "GET http://127.0.0.1:8000/health".
	String() string
}
