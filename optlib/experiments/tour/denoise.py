"""Denoisers learned on one photograph and tried on another: total variation and a field of experts."""

from typing import Any

import numpy as np
from PIL import Image

from optlib import bilevel
from optlib.backend import to_device, to_numpy
from optlib.datasets import load_photographs
from optlib.experiments import _page as page
from optlib.experiments.tour._run import Context

TITLE = "A denoiser that one photograph taught, on another"

NOISE = 0.1
HEIGHT = 256  # of the photographs
PATCHES, SIDE = 6, 40  # cut from the one to learn from
FILTERS, STEPS = 3, 20

SNIPPET = """
from optlib import bilevel

# noisy, clean: patches (n, height, width, colours) of a photograph, without and with noise
model = bilevel.FoEDenoiser(filters=3, max_iter=20).fit(noisy, clean)
print(model.result_)  # 88 hyperparameters: weights, smoothing and filters

better = model.transform(picture[None])[0]  # a picture of any size
"""

_CREDIT = (
    'Photographs: <a href="https://www.flickr.com/photos/danielbuechele/6061409035/">china.jpg</a> by danielbuechele '
    'and <a href="https://www.flickr.com/photos/vultilion/6056698931/">flower.jpg</a> by vultilion, both '
    '<a href="https://creativecommons.org/licenses/by/2.0/">CC BY 2.0</a>, bundled with scikit-learn; the noise was '
    "added."
)


def run(context: Context) -> list[str]:
    """Learn from patches of one photograph, denoise the other and describe both.

    Parameters
    ----------
    context : Context
        Backend and folder.

    Returns
    -------
    list of str
        The pieces of the section.
    """
    photographs = {name: _smaller(image, HEIGHT) for name, image in load_photographs().items()}
    rng = np.random.default_rng(0)
    clean = _planes(_patches(photographs["china"], PATCHES, SIDE, rng))
    picture = photographs["flower"]
    pairs = [(u + NOISE * rng.standard_normal(u.shape), u) for u in (clean, _planes(picture[None]))]
    learning, trying = ([*to_device(pair, context.backend)] for pair in pairs)
    classes = {
        "variation": (bilevel.TotalVariationProblem, {}, {}),
        "experts": (bilevel.FieldsOfExpertsProblem, {"filters": FILTERS}, {"maxiter": STEPS}),
    }
    found = {}
    for name, (cls, options, limits) in context.track([*classes.items()], "Learning denoisers"):
        problem = cls(*learning, **options)
        result = bilevel.tune(problem, callback=context.progress(name), **limits)
        test = cls(*trying, **options)
        found[name] = problem, result, *test.denoise(result.x, tol=1e-3)
    images = {"noisy": test.noisy} | {name: y for name, (*_, y, _) in found.items()}
    quality = {name: test.psnr(y) for name, y in images.items()}
    texts = {
        "noisy": "With noise",
        "variation": "After total variation",
        "experts": "After the field of experts",
    }
    shown = [_show(context, "denoise-clean", picture, "The photograph that was not seen in learning")]
    shown += [
        _show(context, f"denoise-{name}", np.moveaxis(to_numpy(y), 0, 2), f"{texts[name]}: {quality[name]:.1f} dB")
        for name, y in images.items()
    ]
    problem, result, *_ = found["experts"]
    plots = page.render(lambda: {"filters": _plot(problem.experts(result.x))})
    return [
        page.paragraph(
            f"Noise was added to {PATCHES} patches of one photograph. Of the pictures near the noisy one, a denoiser "
            "takes that with the smallest responses to some filters; how much each filter counts, from which response "
            "on, and the filters themselves are tuned by gradients through the solution, so that the patches come out "
            "as they were. The other photograph shows what that is worth."
        ),
        page.gallery(*shown),
        page.facts(_facts(found, quality)),
        page.plot(plots["filters"], "The filters that were learned, and how much each counts."),
        page.heading("What to type"),
        page.code(SNIPPET),
        page.paragraph(f"<small>{_CREDIT}</small>"),
    ]


def _smaller(image: np.ndarray, height: int) -> np.ndarray:
    """A photograph at another size."""
    size = round(height * image.shape[1] / image.shape[0]), height
    levels = Image.fromarray(np.rint(255.0 * image).astype(np.uint8))
    return np.asarray(levels.resize(size, Image.Resampling.LANCZOS)) / 255.0


def _patches(image: np.ndarray, count: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """Squares cut at random places."""
    corners = rng.integers(0, np.array(image.shape[:2]) - side + 1, (count, 2))
    return np.stack([image[r : r + side, c : c + side] for r, c in corners])


def _planes(images: np.ndarray) -> np.ndarray:
    """Every colour as an image of its own."""
    return np.moveaxis(images, 3, 1).reshape(-1, *images.shape[1:3])


def _show(context: Context, name: str, image: np.ndarray, text: str) -> str:
    return page.picture(context.save_image(name, image), "image/jpeg", text)


def _facts(found: dict[str, Any], quality: dict[str, float]) -> list[tuple[str, str, str]]:
    (first, variation, *_), (problem, experts, _, distance) = found["variation"], found["experts"]
    weight, level = first.levels(variation.x)
    return [
        (
            "field of experts", f"{quality['experts'] - quality['noisy']:+.1f} dB",
            (
                f"to {quality['experts']:.1f} dB, on the photograph that was not seen; {experts.x.shape[0]} "
                f"hyperparameters learned in {experts.time:.1f} s"
            ),
        ),
        (
            "total variation", f"{quality['variation'] - quality['noisy']:+.1f} dB",
            (
                f"to {quality['variation']:.1f} dB; weight {weight:.3f} and smoothing {level:.3f} learned in "
                f"{variation.time:.1f} s"
            ),
        ),
        ("weight and smoothing", "certified" if variation.success else "not certified", str(variation.certificate)),
        (
            "the picture shown", f"≤ {255.0 * distance:.1g} of 255 levels",
            "root mean square, proven: so far is it from the exact solution, because the curvature is at least 1",
        ),
        ("the patches themselves", f"{problem.psnr(experts.y):.1f} dB", f"from {problem.psnr(problem.noisy):.1f} dB"),
    ]  # fmt: skip


def _plot(experts: Any) -> Any:
    from matplotlib.figure import Figure

    weights, _, filters = (to_numpy(part) for part in experts)
    sizes = weights * np.abs(filters).sum(axis=(1, 2))
    order = np.argsort(-sizes)
    figure = Figure(figsize=(7.2, 1.5))
    for axes, k in zip(figure.subplots(1, len(order)), order, strict=True):
        top = np.abs(filters[k]).max()
        axes.imshow(filters[k], cmap="RdBu", vmin=-top, vmax=top)
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{sizes[k] / sizes.sum():.0%}", fontsize=9)
    return figure
