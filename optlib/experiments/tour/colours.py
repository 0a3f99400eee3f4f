"""Colour transfer: the colours of two photographs as two point clouds, one plan between them, both directions."""

import math
import time
from html import escape
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter

from optlib import transport
from optlib.backend import asarray_like, to_device, to_numpy
from optlib.datasets import load_photographs
from optlib.experiments import _page as page
from optlib.experiments.tour._run import Context

TITLE = "Each photograph in the colours of the other"

REG = 0.005

SNIPPET = """
import optlib

# china (n, 3) and flower (m, 3): colours as rows; the n x m matrix is never stored
cost = optlib.transport.PointCloud(china, flower)
res = optlib.transport.solve(cost, reg=0.005, callback=optlib.progress())
print(res)  # status, certificate, bounds of the optimal cost

china_repainted = res.plan.barycentric(flower)  # one plan, both directions
flower_repainted = res.plan.T.barycentric(china)
"""

_CREDIT = (
    'Photographs: <a href="https://www.flickr.com/photos/danielbuechele/6061409035/">china.jpg</a> by danielbuechele '
    'and <a href="https://www.flickr.com/photos/vultilion/6056698931/">flower.jpg</a> by vultilion, both '
    '<a href="https://creativecommons.org/licenses/by/2.0/">CC BY 2.0</a>, bundled with scikit-learn; '
    "the repainted versions are derived from them."
)


def run(context: Context) -> list[str]:
    """Solve, repaint both photographs and describe the answer.

    Parameters
    ----------
    context : Context
        Backend, folder and size.

    Returns
    -------
    list of str
        The pieces of the section.
    """
    photographs = load_photographs()
    china, flower = (_sample(photographs[name], context.pixels) for name in ("china", "flower"))
    x, y = to_device((china, flower), context.backend)
    result = transport.solve(
        transport.PointCloud(x, y),
        reg=REG,
        check_every=5,
        callback=context.progress("Transport between the colours"),
        checkpoint=context.checkpoint,
    )
    clock = time.perf_counter()
    repainted = {
        "china": _repaint(result.plan, y, photographs["china"], context),
        "flower": _repaint(result.plan.T, x, photographs["flower"], context),
    }
    painting = time.perf_counter() - clock
    captions = {"china": "China in the colours of the flower", "flower": "The flower in the colours of China"}
    pictures = [(name, photographs[name], f"{name}.jpg") for name in photographs]
    pictures += [(f"{name}-repainted", repainted[name], captions[name]) for name in repainted]
    plots = page.render(
        lambda: {
            "palettes": _plot_palettes(
                china, flower, *(_sample(image, context.pixels) for image in repainted.values())
            ),
            "convergence": _plot_convergence(result.history),
        }
    )
    return [
        page.paragraph(
            f"The {len(china):,} and {len(flower):,} colours of two photographs are two clouds of points. Optimal "
            "transport says which colour becomes which at the least total change; the plan is then read in both "
            "directions, and its formula extends to every pixel of both pictures."
        ),
        page.gallery(
            *(page.picture(context.save_image(name, image), "image/jpeg", text) for name, image, text in pictures)
        ),
        page.heading("How good the answer is"),
        page.facts(_facts(result, painting)),
        page.paragraph(f"<small>{escape(result.message)}</small>"),
        page.plot(
            plots["palettes"],
            "The palettes, green-red against blue-yellow: each repainted photograph takes the palette of the other.",
        ),
        page.plot(
            plots["convergence"],
            "Convergence at the final reg.",
        ),
        page.heading("What to type"),
        page.code(SNIPPET),
        page.paragraph(f"<small>{_CREDIT}</small>"),
    ]


def _sample(image: np.ndarray, pixels: int) -> np.ndarray:
    """Colours of at least ``pixels`` pixels, evenly spaced."""
    colours = image.reshape(-1, 3)
    return to_lab(colours[:: max(1, len(colours) // pixels)])


def _repaint(plan: Any, target: Any, image: np.ndarray, context: Context) -> np.ndarray:
    """Send every pixel through the plan, whose formula extends beyond the sampled colours.

    What is sent is the photograph without its fine grain, which is added back: colours that hardly differ may end far
    apart, and the blocks of the JPEG format with them.
    """
    lab = to_lab(image)
    coarse = _without_grain(lab)
    mapped = [
        to_numpy(plan.at(asarray_like(colours, target)).barycentric(target))
        for colours in context.track(np.array_split(coarse.reshape(-1, 3), 32), "Repainting")
    ]
    return to_srgb(np.concatenate(mapped).reshape(lab.shape) + (lab - coarse))


def _without_grain(image: np.ndarray, radius: int = 8, contrast: float = 0.03) -> np.ndarray:
    """Guided filter (He, Sun and Tang 2013): a local mean where the contrast is small, the image where it is large."""
    size = (2 * radius + 1, 2 * radius + 1, 0)
    mean = uniform_filter(image, size)
    variance = uniform_filter(image * image, size) - mean * mean
    kept = variance / (variance + contrast**2)
    return uniform_filter(kept, size) * image + uniform_filter((1.0 - kept) * mean, size)


def _facts(result: Any, painting: float) -> list[tuple[str, str, str]]:
    n, m = result.plan.shape
    low, high = (float(bound) for bound in result.lp_bounds)
    shift = [100.0 * math.sqrt(max(0.0, bound)) for bound in (low, high)]  # costs are squares of ΔE / 100
    passes = result.counts["passes"]
    return [
        ("answer", "certified" if result.success else "not certified", str(result.certificate)),
        ("duality gap", f"≤ {result.gap:.1e}", f"proven distance from the optimal value {float(result.value):.6f}"),
        (
            "least possible change of colour",
            f"{shift[0]:.2f} to {shift[1]:.2f} ΔE",
            f"root mean square, without entropy: the optimal cost lies proven in [{low:.6f}, {high:.6f}]",
        ),
        ("error of the marginals", f"{result.marginal_error:.1e}", "share of the colours out of balance"),
        (
            "time",
            f"{result.time:.1f} s",
            f"{passes} passes over {n * m:.1e} pairs; then {painting:.1f} s to repaint every pixel",
        ),
        ("memory not used", f"{8e-9 * n * m:.1f} GB", "for the matrix of all costs, which is never stored"),
    ]


def _plot_palettes(*clouds: np.ndarray) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.3))
    panels = figure.subplots(1, 4, sharex=True, sharey=True)
    for axes, cloud, title in zip(
        panels, clouds, ("china", "flower", "china, repainted", "flower, repainted"), strict=True
    ):
        shown = cloud[:: max(1, len(cloud) // 2500)]
        axes.scatter(100 * shown[:, 1], 100 * shown[:, 2], s=3, c=to_srgb(shown), linewidths=0, rasterized=True)
        axes.set(title=title, xlabel="a*", box_aspect=1)
    panels[0].set_ylabel("b*")
    return figure


def _plot_convergence(history: Any) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.8))
    axes = figure.add_subplot()
    known = [(nit, error) for nit, error in zip(history["nit"], history["stop"], strict=True) if error < 2.0]
    axes.semilogy(*zip(*known, strict=True), marker=".")
    axes.set(xlabel="pass over all pairs of colours", ylabel="error of the marginals")
    axes.set_xlim(left=0)
    return figure


# CIELAB under D65 (CIE 15:2004), divided by 100: distances are close to perceived differences of colour.
_RGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_RGB_TO_XYZ /= _RGB_TO_XYZ.sum(axis=1, keepdims=True)  # white is (1, 1, 1)
_KNEE = 6.0 / 29.0


def to_lab(srgb: np.ndarray) -> np.ndarray:
    """Convert sRGB levels in [0, 1] to CIELAB / 100.

    Parameters
    ----------
    srgb : ndarray, shape (..., 3)
        Red, green and blue.

    Returns
    -------
    ndarray, shape (..., 3)
        Lightness, green-red and blue-yellow.
    """
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _RGB_TO_XYZ.T
    x, y, z = np.moveaxis(np.where(xyz > _KNEE**3, np.cbrt(xyz), xyz / (3.0 * _KNEE**2) + 4.0 / 29.0), -1, 0)
    return np.stack([1.16 * y - 0.16, 5.0 * (x - y), 2.0 * (y - z)], axis=-1)


def to_srgb(lab: np.ndarray) -> np.ndarray:
    """Convert CIELAB / 100 to sRGB levels, clipped to [0, 1].

    Parameters
    ----------
    lab : ndarray, shape (..., 3)
        Lightness, green-red and blue-yellow.

    Returns
    -------
    ndarray, shape (..., 3)
        Red, green and blue.
    """
    lightness, a, b = np.moveaxis(lab, -1, 0)
    y = (lightness + 0.16) / 1.16
    roots = np.stack([y + a / 5.0, y, y - b / 2.0], axis=-1)
    xyz = np.where(roots > _KNEE, roots**3, 3.0 * _KNEE**2 * (roots - 4.0 / 29.0))
    linear = np.clip(xyz @ np.linalg.inv(_RGB_TO_XYZ).T, 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1.0 / 2.4) - 0.055)
