"""A training step as a workflow runs it: python3 main.py. Writes a model and its score; exit code 3 when it is too bad to go on."""

import json
import os
import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

OUT = os.environ.get("OUT", "/tmp/outputs")
THRESHOLD = float(os.environ.get("THRESHOLD", "0.9"))

pixels, digits = load_digits(return_X_y=True)
pixels = pixels / 16
model = LogisticRegression(max_iter=200).fit(pixels[:1200], digits[:1200])
accuracy = model.score(pixels[1200:], digits[1200:])

os.makedirs(OUT, exist_ok=True)
np.savez(os.path.join(OUT, "model.npz"), weights=model.coef_, bias=model.intercept_)
with open(os.path.join(OUT, "metrics.json"), "w") as f:
    json.dump({"accuracy": round(accuracy, 4), "threshold": THRESHOLD}, f)
print("accuracy %.4f" % accuracy, flush=True)
if accuracy < THRESHOLD:
    print("below %.2f: this model is not deployed" % THRESHOLD, file=sys.stderr)
    sys.exit(3)
