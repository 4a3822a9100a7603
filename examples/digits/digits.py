"""A picture of one handwritten digit in, the digit out.

Training (train.py), the test pictures (pictures.py) and the server (app.py) share this file, so that a
picture is seen by the server exactly as it was seen in training. Only numpy and Pillow are needed here.
"""

import io
import os

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MODEL = os.environ.get(
    "DIGITS_MODEL",
    os.path.join(os.path.dirname(os.path.abspath(__file__)), "model.npz"),
)

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 40_000_000  # a picture that unpacks to more is refused before it is unpacked
WORK_SIDE = 256  # larger pictures are shrunk to this first; the model sees 8x8 in the end

# The data set was made from 32x32 bitmaps whose cells are averaged 4x4 into 8x8.
BOX = 32
CELL = 4


class BadPicture(ValueError):
    """The request holds no readable picture of a digit; the text is meant for the caller."""


def read_ink(data):
    """Turns the bytes of a picture into ink: 0 is paper, 1 is the strongest stroke.

    Dark on light and light on dark are told apart by the border, which is paper.
    """
    if not data:
        raise BadPicture("the picture is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise BadPicture(
                "the picture has %d x %d pixels, more than %d in all"
                % (image.width, image.height, MAX_PIXELS)
            )
        image.draft("L", (WORK_SIDE, WORK_SIDE))  # JPEG only: unpack no more than needed
        image = ImageOps.exif_transpose(image)
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            paper = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(paper, image)
        image = image.convert("L")
    except BadPicture:
        raise
    except UnidentifiedImageError as err:
        raise BadPicture("that is no picture; these are read: %s" % ", ".join(FORMATS)) from err
    except Exception as err:  # Pillow raises many kinds for broken files; all mean the same here
        raise BadPicture("cannot read the picture: %s" % err) from err
    if min(image.size) < 8:
        raise BadPicture("the picture is smaller than 8 x 8 pixels")
    image.thumbnail((WORK_SIDE, WORK_SIDE), Image.BILINEAR)
    return ink_of(np.asarray(image, dtype=np.float32))


def ink_of(gray):
    """Subtracts the paper (the median of the border) and scales to 0..1."""
    border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    paper = float(np.median(border))
    lighter, darker = 255.0 - paper, paper
    ink = gray - paper
    # The side with more ink in it is the stroke, the other is noise around it.
    up, down = np.clip(ink, 0, None), np.clip(-ink, 0, None)
    ink, room = (up, lighter) if up.sum() > down.sum() else (down, darker)
    top = float(np.percentile(ink, 99.5))
    if top < 0.1 * 255 or room <= 0:
        raise BadPicture("there is nothing drawn in the picture")
    return np.clip(ink / top, 0, 1)


def features(ink):
    """Makes the 64 numbers of the data set out of ink: crop, scale to full height, centre, average 4x4.

    In the data set every digit is as high as its box and stands in the middle of it.
    """
    drawn = ink > 0.3
    rows, cols = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    ink = ink[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    height, width = ink.shape
    scale = BOX / max(height, width)
    size = (max(CELL, round(width * scale)), max(CELL, round(height * scale)))
    image = Image.fromarray((ink * 255).astype(np.uint8), "L").resize(size, Image.BOX if scale < 1 else Image.BILINEAR)
    small = np.asarray(image, dtype=np.float32) / 255

    # Centre of mass to the middle, as far as the box allows.
    box = np.zeros((BOX, BOX), dtype=np.float32)
    h, w = small.shape
    mass = small.sum()
    middle_y = (small.sum(axis=1) * np.arange(h)).sum() / mass
    middle_x = (small.sum(axis=0) * np.arange(w)).sum() / mass
    top = min(max(round(BOX / 2 - 0.5 - middle_y), 0), BOX - h)
    left = min(max(round(BOX / 2 - 0.5 - middle_x), 0), BOX - w)
    box[top : top + h, left : left + w] = small
    cells = box.reshape(BOX // CELL, CELL, BOX // CELL, CELL).mean(axis=(1, 3))
    return (cells * 16).reshape(-1)


class Model:
    """A multilayer perceptron: the weights that train.py wrote, and nothing else."""

    def __init__(self, path=MODEL):
        with np.load(path, allow_pickle=False) as data:
            count = int(data["layers"])
            self.layers = [(data["w%d" % i], data["b%d" % i]) for i in range(count)]
            self.accuracy = float(data["accuracy"])

    def predict(self, rows):
        """rows: n x 64 numbers of 0..16; returns n digits."""
        x = np.asarray(rows, dtype=np.float32) / 16
        for weights, bias in self.layers[:-1]:
            x = np.maximum(x @ weights + bias, 0)
        weights, bias = self.layers[-1]
        return (x @ weights + bias).argmax(axis=1)

    def read(self, data):
        """The digit in the picture whose bytes are data."""
        return int(self.predict([features(read_ink(data))])[0])
