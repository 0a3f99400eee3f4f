"""A photograph from compressive measurements: sums of its pixels with signs that are never stored."""

from typing import Any

import numpy as np
from PIL import Image

from optlib import sensing
from optlib.backend import to_device, to_numpy
from optlib.datasets import load_photographs
from optlib.experiments import _page as page
from optlib.experiments.tour._run import Context

TITLE = "A photograph from half as many sums as it has pixels"

SIDE = 256
SHARES = {0.25: "a quarter", 0.5: "half"}
REG = 0.005

SNIPPET = """
from optlib import sensing

# every measurement is a sum of all pixels with signs + and -, computed where needed
camera = sensing.SubsampledTransform((256, 256), 32_768, "hadamard", rng=0)
y = camera.forward(picture)

res = sensing.fista(camera, y, reg=0.005)
print(res)  # status, certificate, rank
again = res.matrix.toarray()
"""

_CREDIT = (
    'Photograph: <a href="https://www.flickr.com/photos/vultilion/6056698931/">flower.jpg</a> by vultilion, '
    '<a href="https://creativecommons.org/licenses/by/2.0/">CC BY 2.0</a>, bundled with scikit-learn; the grey '
    "pictures are derived from it."
)


def run(context: Context) -> list[str]:
    """Measure, recover from fewer measurements than pixels and describe the answer.

    Parameters
    ----------
    context : Context
        Backend and folder.

    Returns
    -------
    list of str
        The pieces of the section.
    """
    picture = grey_square(load_photographs()["flower"], SIDE)
    answers = {}
    for share in context.track(tuple(SHARES), "Recovering the photograph"):
        camera = sensing.SubsampledTransform((SIDE, SIDE), round(share * SIDE**2), "hadamard", rng=0)
        camera, y = to_device((camera, camera.forward(picture)), context.backend)
        result = sensing.fista(camera, y, reg=REG, tol=1e-4, maxiter=200)
        answers[share] = result, to_numpy(result.matrix.toarray()), to_numpy(camera.adjoint(y))
    half = answers[0.5]
    pictures = [("grey", picture, f"The photograph, {SIDE} x {SIDE} pixels")]
    pictures += [
        (f"grey-{share:g}", answers[share][1], f"From {words} as many sums: {_psnr(answers[share][1], picture):.1f} dB")
        for share, words in SHARES.items()
    ]
    pictures.append(("grey-adjoint", half[2], "What half the sums look like before recovery: the adjoint"))
    shown = [
        page.picture(context.save_image(name, np.repeat(image[:, :, None], 3, axis=2)), "image/jpeg", text)
        for name, image, text in pictures
    ]
    return [
        page.paragraph(
            "A camera with a single pixel measures sums of the whole picture, with random signs. A photograph is not a "
            "matrix of low rank, but close to one: of all pictures that fit the sums well, the recovery takes the one "
            "of the least nuclear norm. The signs are a fast transform of a few random bits and are never stored."
        ),
        page.gallery(*shown),
        page.facts(_facts(half[0], half[1], picture)),
        page.heading("What to type"),
        page.code(SNIPPET),
        page.paragraph(f"<small>{_CREDIT}</small>"),
    ]


def grey_square(image: np.ndarray, side: int) -> np.ndarray:
    """The middle of a photograph as levels of grey."""
    grey = Image.fromarray(np.rint(255.0 * (image @ [0.2126, 0.7152, 0.0722])).astype(np.uint8))
    width = max(side, round(side * grey.width / grey.height))
    left = (width - side) // 2
    return np.asarray(grey.resize((width, side), Image.Resampling.LANCZOS))[:, left : left + side] / 255.0


def _psnr(found: np.ndarray, picture: np.ndarray) -> float:
    """Peak signal to noise, in decibel."""
    return float(-10.0 * np.log10(np.mean((np.clip(found, 0.0, 1.0) - picture) ** 2)))


def _facts(result: Any, found: np.ndarray, picture: np.ndarray) -> list[tuple[str, str, str]]:
    m = SIDE**2 // 2
    return [
        ("answer", "certified" if result.success else "not certified", str(result.certificate)),
        ("quality", f"{_psnr(found, picture):.1f} dB", f"from {m:,} sums of {SIDE**2:,} pixels"),
        ("rank", str(result.rank), f"of at most {SIDE}"),
        ("time", f"{result.time:.1f} s", f"{result.nit} iterations"),
        ("memory not used", f"{8e-9 * m * SIDE**2:.0f} GB", "for the signs of all sums"),
    ]
