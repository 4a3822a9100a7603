"""Real handwritten digits as pictures: the data set's held-out part, which training never sees.

    pictures.py DIR [COUNT]   writes COUNT (all by default) pictures, DIR/<digit>-<number>.<jpg|png>
    pictures.py --seven FILE  writes the seven that the README sends

The pictures differ on purpose: size, format, dark on light and light on dark, place on the sheet.
"""

import os
import sys

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def split():
    """The one split that training and tests share: training images and digits, held-out images and digits."""
    data = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        data.images, data.target, test_size=0.25, random_state=7, stratify=data.target
    )
    return train_x, train_y, test_x, test_y


def draw(cells, side, left=None, top=None, zoom=0.85, invert=False):
    """Draws 8x8 cells of 0..16 on a white sheet of side x side pixels (black when invert)."""
    inner = max(8, round(side * zoom))
    cells = np.pad(cells, 1)  # else strokes that touch the edge of the 8x8 cells would end in a hard cut
    image = Image.fromarray((cells / 16 * 255).astype(np.uint8), "L")
    image = image.resize((inner, inner), Image.BICUBIC)
    left = (side - inner) // 2 if left is None else left
    top = (side - inner) // 2 if top is None else top
    sheet = Image.new("L", (side, side), 0)
    sheet.paste(image, (left, top))
    return sheet if invert else Image.eval(sheet, lambda value: 255 - value)


def held_out(count=None):
    """Yields (digit, number, picture, file ending)."""
    _, _, images, digits = split()
    sides = (28, 48, 112, 200, 320)
    for number, (cells, digit) in enumerate(zip(images[:count], digits[:count])):
        side = sides[number % len(sides)]
        rng = np.random.default_rng(number)
        zoom = rng.uniform(0.65, 1)
        room = side - max(8, round(side * zoom))
        left, top = (int(rng.integers(0, room + 1)) for _ in range(2))
        picture = draw(cells, side, left, top, zoom, invert=number % 2 == 1)
        yield int(digit), number, picture, "png" if number % 3 == 0 else "jpg"


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "--seven":
        _, _, images, digits = split()
        cells = images[np.flatnonzero(digits == 7)[15]]  # any is right; this one is written clearly
        draw(cells, 224, zoom=0.85).save(arguments[1], format="JPEG", quality=90)
        return 0
    if len(arguments) not in (1, 2):
        sys.stderr.write(__doc__)
        return 2
    folder = arguments[0]
    os.makedirs(folder, exist_ok=True)
    count = int(arguments[1]) if len(arguments) == 2 else None
    written = 0
    for digit, number, picture, ending in held_out(count):
        options = {"quality": 85} if ending == "jpg" else {}
        picture.save(os.path.join(folder, "%d-%03d.%s" % (digit, number, ending)), **options)
        written += 1
    print("%d pictures in %s" % (written, folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
