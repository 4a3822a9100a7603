"""Serves the TorchScript model that $MODEL names.

POST /predict {"instances": [[0.5], [1.0]]} answers {"predictions": [[0.479], [0.841]]}: the instances are one tensor of
float32, what the model returns for it are the predictions. GET /health says where the model is.
"""
import os

if not os.path.isfile(os.environ["MODEL"]):  # before the seconds that importing torch takes
    raise FileNotFoundError("there is no model at %s, which MODEL names" % os.environ["MODEL"])

import torch
from flask import Flask, jsonify, request
from werkzeug.exceptions import HTTPException

# No GPU is a normal case: NVIDIA_VISIBLE_DEVICES=none, no driver, or a PyTorch without CUDA.
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.set_num_threads(int(os.environ.get("TORCH_THREADS", "1")))
model = torch.jit.load(os.environ["MODEL"], map_location=device).eval()
print("%s is on %s" % (os.environ["MODEL"], device), flush=True)

app = Flask(__name__)


@app.get("/health")
def health():
    return jsonify(health="true", device=device, model=os.environ["MODEL"], torch=torch.__version__)


@app.post("/predict")
def predict():
    body = request.get_json()
    if not isinstance(body, dict) or "instances" not in body:
        return jsonify(error='want {"instances": [...]}'), 400
    try:
        batch = torch.tensor(body["instances"], dtype=torch.float32, device=device)
        with torch.inference_mode():
            return jsonify(predictions=model(batch).tolist())
    except (TypeError, ValueError, RuntimeError) as e:  # RuntimeError: a shape that the model does not take
        return jsonify(error=str(e).strip().splitlines()[-1]), 400  # TorchScript puts the whole trace before it


@app.errorhandler(HTTPException)
def failed(e):
    return jsonify(error=e.description), e.code
