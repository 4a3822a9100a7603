"""Stands in for a model server: adds up the numbers in the parts of the model in /models."""

import json
import pathlib
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODELS = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "/models")


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        parts = {p.parent.name: float(p.read_text()) for p in sorted(MODELS.glob("*/*.txt"))}
        body = json.dumps({"parts": parts, "sum": sum(parts.values())}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("127.0.0.1", 18080), Server).serve_forever()
