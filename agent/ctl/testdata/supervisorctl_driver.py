"""Runs the unmodified supervisorctl once for every line of JSON on standard input.

Importing supervisorctl takes a third of a second; a fork of a process that has done it takes a
hundredth. {"args": [...], "stdin": "...", "until": "text", "last": "text"}: with "until", standard input stays
open and Ctrl-C is sent as soon as the output holds that text. With "last", the process is killed
once it has written that: after fg its thread sits in poll() for up to half a minute. The answer is
{"out": ..., "err": ..., "code": ...}.
"""
import json
import os
import signal
import sys
import tempfile
import time

from supervisor import supervisorctl


def child(request, out, err, inp):
    os.dup2(inp, 0)
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    sys.stdin = open(0, closefd=False)
    sys.argv = ["supervisorctl"] + request["args"]
    # Tests started in the background of a script have inherited an ignored SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 0
    try:
        supervisorctl.main()
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else (0 if e.code is None else 1)
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def answer(request):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        rd, wr = os.pipe()
        os.write(wr, request.get("stdin", "").encode())
        pid = os.fork()
        if pid == 0:
            os.close(wr)
            child(request, out, err, rd)
        os.close(rd)
        last = request.get("last")
        if request.get("until"):
            wait_for(out, request["until"])
            os.kill(pid, signal.SIGINT)
        if last:
            wait_for(out, last)
            os.kill(pid, signal.SIGKILL)
        os.close(wr)
        _, status = os.waitpid(pid, 0)
        return {
            "out": os.pread(out.fileno(), 1 << 20, 0).decode(),
            "err": os.pread(err.fileno(), 1 << 20, 0).decode(),
            "code": 0 if last else os.waitstatus_to_exitcode(status),
        }


def wait_for(out, text):
    deadline = time.time() + 60
    while text.encode() not in os.pread(out.fileno(), 1 << 20, 0) and time.time() < deadline:
        time.sleep(0.01)


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
