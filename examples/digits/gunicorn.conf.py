"""Settings of the model server, read by gunicorn."""

import os

# So that two workers on two cores do not fight over them; has to be set before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

bind = "127.0.0.1:18080"
workers = 2
threads = 4
accesslog = None
errorlog = "-"
# Idle connections outlive the route's own (it closes them after 4 s), so that none is closed under a request.
keepalive = 10
# A worker that writes its heartbeat to a disk can be taken for dead; /dev/shm is memory.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
