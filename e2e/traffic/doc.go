// Package traffic is the two ends of a proxy under test: an upstream that does as each request says, however odd, and
// clients that know what each of their requests must bring and check every byte of it.
//
// Enter at Listen (the upstream), Mixed (HTTP clients) and Dial (a WebSocket). Every request has an id, which is in
// every part of its answer, so that an answer that got mixed up with another is seen. The clients and the upstream
// read and write the wire themselves where a library would hide what comes over it.
package traffic
