#!/usr/bin/python3
"""Stands in for sshd, jupyter-lab, tensorboard and ollama, under whose names it is linked.

It does what the supervisor sees of them: stays in the foreground, listens on the tool's port, writes to
stdout and stderr, and ends on SIGTERM. It says its name and pid to whoever connects.
"""

import os
import signal
import socket
import sys

PORTS = {"sshd": 22, "jupyter-lab": 8888, "tensorboard": 6006, "ollama": 11434}


def main():
    name = os.path.basename(sys.argv[0])
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    listener = socket.create_server(("0.0.0.0", PORTS[name]))
    print("%s: listening on port %d in %s" % (name, PORTS[name], os.getcwd()), flush=True)
    print("%s: a line on stderr" % name, file=sys.stderr, flush=True)
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"%s %d\n" % (name.encode(), os.getpid()))


main()
