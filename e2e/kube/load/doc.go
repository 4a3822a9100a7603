// Package load is the clients of a Service while its pods come and go: POSTs on connections that are kept, POSTs that make a new
// connection each, and event streams. Whatever is not the whole right answer counts as failed, by the kind of failure, and
// nothing is sent a second time. It knows nothing of Kubernetes but an address, behind which is a traffic.Server. Start with Load.
package load
