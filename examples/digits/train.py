"""Trains the digit classifier from scikit-learn's bundled 1,797 real handwritten digits.

    train.py [--if-missing] [FILE]   writes the weights to FILE ($DIGITS_MODEL, or model.npz beside this file)

Three quarters are trained on, one quarter is held out and only measured. Each training digit is also drawn
as a picture at several sizes, angles and stroke widths and read back through the server's own preprocessing,
so that the model has seen what a picture looks like after it.
"""

import os
import sys
import time
import warnings

import numpy as np
from PIL import Image, ImageFilter
from sklearn.neural_network import MLPClassifier

import digits
import pictures

COPIES = 8  # pictures drawn of each training digit
FLOOR = 0.95  # a model below this on held-out pictures is a mistake and is not written


def distort(cells, rng):
    """One picture of a digit as somebody else could have drawn and photographed it."""
    side = int(rng.choice([28, 48, 96]))
    picture = pictures.draw(cells, side, zoom=rng.uniform(0.65, 0.95), invert=True)
    angle, shear = np.deg2rad(rng.normal(0, 6)), rng.normal(0, 0.08)
    wide, high = rng.normal(1, 0.08, 2)
    cos, sin, middle = np.cos(angle), np.sin(angle), side / 2
    a, b, d, e = wide * cos, wide * (shear - sin), high * sin, high * cos
    matrix = (a, b, middle - a * middle - b * middle, d, e, middle - d * middle - e * middle)
    picture = picture.transform((side, side), Image.AFFINE, matrix, Image.BILINEAR)
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(side * rng.uniform(0.005, 0.02)))
    values = np.asarray(picture, dtype=np.float32)
    if rng.random() < 0.3:  # a pen with hard edges
        values = np.clip((values - rng.uniform(40, 100)) * 4, 0, 255)
    return np.clip(values + rng.normal(0, 4, values.shape), 0, 255)


def train(path):
    start = time.monotonic()
    train_x, train_y, test_x, test_y = pictures.split()
    rng = np.random.default_rng(1797)
    rows, labels = [train_x.reshape(len(train_x), -1)], [train_y]
    drawn = [digits.features(digits.ink_of(distort(cells, rng))) for cells in train_x for _ in range(COPIES)]
    rows.append(np.array(drawn))
    labels.append(np.repeat(train_y, COPIES))
    x, y = np.concatenate(rows) / 16, np.concatenate(labels)

    net = MLPClassifier((128, 64), alpha=1e-3, batch_size=256, max_iter=25, random_state=7)
    with warnings.catch_warnings():  # stopping after max_iter is meant
        warnings.simplefilter("ignore")
        net.fit(x, y)

    values = {"layers": len(net.coefs_), "accuracy": 0.0}
    for i, (weights, bias) in enumerate(zip(net.coefs_, net.intercepts_)):
        values["w%d" % i], values["b%d" % i] = weights.astype(np.float32), bias.astype(np.float32)

    part = "%s.%d.npz" % (path, os.getpid())
    try:
        np.savez(part, **values)
        model = digits.Model(part)
        raw = (model.predict(test_x.reshape(len(test_x), -1)) == test_y).mean()
        seen = [
            (digit, digits.features(digits.ink_of(np.asarray(picture, dtype=np.float32))))
            for digit, _, picture, _ in pictures.held_out()
        ]
        drawn = (model.predict([row for _, row in seen]) == [digit for digit, _ in seen]).mean()
        print("trained on %d digits (%d pictures) in %.1f s" % (len(train_x), len(x), time.monotonic() - start))
        print("held out: %d digits, %.1f %% right as 8x8 cells, %.1f %% right as pictures" % (len(test_y), raw * 100, drawn * 100))
        if min(raw, drawn) < FLOOR:
            print("that is below %.0f %%: the model is not written" % (FLOOR * 100), file=sys.stderr)
            return 1
        values["accuracy"] = drawn
        np.savez(part, **values)
        os.replace(part, path)  # a server that starts meanwhile never sees half a file
    finally:
        if os.path.exists(part):
            os.remove(part)
    print("wrote %s (%d KB)" % (path, os.path.getsize(path) // 1024))
    return 0


def up_to_date(path):
    sources = (__file__, digits.__file__, pictures.__file__)
    return os.path.exists(path) and os.path.getmtime(path) >= max(os.path.getmtime(name) for name in sources)


def main(arguments):
    if_missing = "--if-missing" in arguments
    names = [name for name in arguments if name != "--if-missing"]
    if len(names) > 1 or any(name.startswith("-") for name in names):
        sys.stderr.write(__doc__)
        return 2
    path = names[0] if names else digits.MODEL
    if if_missing and up_to_date(path):
        print("%s is up to date, %.1f %% right on held-out pictures" % (path, digits.Model(path).accuracy * 100))
        return 0
    return train(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
