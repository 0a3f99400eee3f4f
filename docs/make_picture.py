"""Make the picture of the README from what ``optlib tour`` wrote: ``python docs/make_picture.py optlib-tour``."""

import sys
from pathlib import Path

from PIL import Image

NAMES = ("china", "flower", "china-repainted", "flower-repainted")
WIDTH, GAP = 480, 8

folder = Path(sys.argv[1])
images = [Image.open(folder / f"{name}.png") for name in NAMES]
height = WIDTH * images[0].height // images[0].width
picture = Image.new("RGB", (2 * WIDTH + GAP, 2 * height + GAP), "white")
for k, image in enumerate(images):
    corner = (k % 2 * (WIDTH + GAP), k // 2 * (height + GAP))
    picture.paste(image.resize((WIDTH, height), Image.Resampling.LANCZOS), corner)
picture.save(Path(__file__).parent / "_static" / "colour_transfer.jpg", quality=88, optimize=True)
