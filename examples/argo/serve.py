"""The serving step: Flask's own server. POST /api/mnist with {"image": [64 numbers]} -> {"results": [10 numbers]}."""

import os

import numpy as np
from flask import Flask, jsonify, request

app = Flask(__name__)
with np.load(os.path.join(os.environ.get("OUT", "/tmp/outputs"), "model.npz")) as data:
    weights, bias = data["weights"], data["bias"]


@app.get("/health")
def health():
    return "ok"


@app.post("/api/mnist")
def mnist():
    scores = weights @ (np.asarray(request.json["image"], dtype=float) / 16) + bias
    odds = np.exp(scores - scores.max())
    return jsonify(results=(odds / odds.sum()).round(4).tolist())


app.run(host="127.0.0.1", port=5000)
