// Package xmlrpc is Supervisor's control interface over HTTP: XML-RPC on /RPC2 and the log streams on /logtail and
// /mainlogtail (supervisord.org/api.html), as a server and as a client.
//
// Enter at [NewHandler] with what it controls, and serve it with [ListenUnix] or [ListenTCP] and [Serve]. [NewClient]
// is the other end. [Marshal] and [ParseCall] are the codec.
//
// The judge of every byte is Python's xmlrpc.client and the unmodified supervisorctl. The package starts and stops
// nothing itself; a [Supervisor] does.
package xmlrpc
