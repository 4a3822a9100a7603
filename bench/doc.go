// Command bench measures inpod beside the programs it replaces (Python's supervisord, tini, dumb-init and s6-svscan)
// its proxy beside others (nginx, HAProxy, Knative's queue-proxy and net/http's ReverseProxy) and its SSH server beside
// OpenSSH's, in one run on one machine, and writes bench/RESULTS.md: figures, ratios, and the aims they are held against.
//
// Everything it starts lives in a temporary directory and is stopped by it. It does not tune a peer: each runs as
// Debian packages it, with the configuration its manual gives. queue-proxy is no package: the go command builds it,
// once, in the user's cache.
package main
