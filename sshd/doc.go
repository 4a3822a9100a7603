// Package sshd is the SSH server: who may log in, sessions and terminals, forwarding of every kind. Enter at New and
// Server.Apply.
//
// Nobody gets in without a credential that somebody put there: where there is none at all the server does not listen,
// or refuses every login where ssh.listen was set. Files are served by sshd/sftp and sshd/scp. Processes are started by
// the Spawner that the caller hands over; this package waits for none by itself.
package sshd
