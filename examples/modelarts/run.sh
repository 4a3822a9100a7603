#!/bin/sh
# The image's own start script, as it was: it knows nothing of inpod.
cd "$(dirname "$0")" || exit 1
exec /usr/bin/gunicorn --bind 127.0.0.1:18080 --threads 4 --keep-alive 10 --worker-tmp-dir /tmp app:app
