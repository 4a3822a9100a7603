"""The model server: a picture of a handwritten digit in, the digit out.

    POST /        multipart field "images" -> 200 {"mnist_result": 7}; 400, 413 with {"error": "..."}
    GET  /health  200 {"health": "true"} once the model is loaded, 503 {"health": "false"} before

Plain Flask and numpy, as such servers usually are: nothing in here knows of inpod.
"""

import json
import threading

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

import digits

MAX_BODY = 16 * 1024 * 1024


def answer(value, status=200):
    return Response(json.dumps(value) + "\n", status, content_type="application/json")


def create_app(path=digits.MODEL):
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    loaded = {}
    ready = threading.Event()

    def load():
        loaded["model"] = digits.Model(path)
        ready.set()

    # Big models take minutes to load; /health has to answer meanwhile.
    threading.Thread(target=load, daemon=True).start()

    @app.get("/health")
    def health():
        if ready.is_set():
            return answer({"health": "true"})
        return answer({"health": "false"}, 503)

    @app.post("/")
    def predict():
        # /health asked one worker; another may be a moment behind.
        if not ready.wait(30):
            return answer({"error": "the model is still loading"}, 503)
        picture = request.files.get("images")
        if picture is None:
            return answer({"error": "no file in the multipart field 'images': curl -F images=@seven.jpg"}, 400)
        try:
            return answer({"mnist_result": loaded["model"].read(picture.read())})
        except digits.BadPicture as err:
            return answer({"error": str(err)}, 400)

    @app.errorhandler(HTTPException)
    def http_error(err):
        if err.code == 413:
            return answer({"error": "the request is larger than %d MB" % (MAX_BODY >> 20)}, 413)
        return answer({"error": err.description}, err.code)

    return app


app = create_app()
