"""A penalty for every pixel and class: 650 hyperparameters by gradients, and what they are worth on unseen images."""

import math
import time
import warnings
from typing import Any

import numpy as np

from optlib.backend import to_device, to_numpy
from optlib.backend.special import logsumexp
from optlib.bilevel import MultinomialProblem, tune
from optlib.datasets import load_digits
from optlib.experiments import _page as page
from optlib.experiments.tour._run import Context

TITLE = "650 hyperparameters at once, and what they are worth"

SNIPPET = """
from optlib import bilevel

# training images (n, 65) and classes, validation images and classes
problem = bilevel.MultinomialProblem(A, t, V, c, penalty="entry")
res = bilevel.tune(problem)
print(res)    # the loss, how stationary it is, and what it cost
res.x         # logarithms of the 65 x 10 penalties
res.y         # the model that belongs to them
"""

PART = 600  # images to learn from, and to validate on; the others are for the test
STEPS = 80
SHOWN = {"scalar": "one", "feature": "one a pixel", "entry": "one a pixel and class"}


def run(context: Context) -> list[str]:
    """Tune one penalty, one a pixel, and one a pixel and class, and test the models.

    Parameters
    ----------
    context : Context
        The array library, and the progress bar.

    Returns
    -------
    list of str
        The pieces of the section.
    """
    X, t = load_digits()
    X = np.column_stack([X.reshape(len(X), -1), np.ones(len(X))])
    order = np.random.default_rng(0).permutation(len(t))
    X, t = X[order], t[order].astype(float)
    data = [to_device(u, context.backend) for u in (X[:PART], t[:PART], X[PART : 2 * PART], t[PART : 2 * PART])]
    rows, curves, warned = [], {}, ""
    for penalty, words in SHOWN.items():
        problem, path = MultinomialProblem(*data, penalty=penalty), []
        clock = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            res = tune(problem, maxiter=STEPS, callback=lambda found, path=path: path.append(found.state.y))
        seconds = time.perf_counter() - clock
        warned = str(caught[-1].message) if caught else warned
        tested = [_tested(y, X[2 * PART :], t[2 * PART :]) for y in path]
        curves[penalty] = res.history["fun"], [loss for loss, _ in tested]
        loss, wrong = tested[-1]
        numbers = f"{res.fun:.4f}", f"{loss:.4f}", f"{100 * wrong:.1f} %"
        rows.append((words, str(math.prod(res.x.shape)), *numbers, f"{seconds:.2f} s"))
    x = to_numpy(res.x)
    plots = page.render(lambda: {"curves": _curves(curves), "pixels": _pixels(x)})
    best = min(curves["entry"][1])
    return [
        page.paragraph(
            f"A digit of 8 x 8 pixels is told by a linear model, learned from {PART} images. How much should each of "
            "its 65 x 10 coefficients be held back? One derivative of the validation loss with respect to all 650 "
            "penalties costs a fit and a linear system, so all of them are tuned at once. A grid with two values each "
            "would take 2<sup>650</sup> fits."
        ),
        page.table(
            rows, header=("penalties", "number", "validation loss", "test loss", "wrong on test images", "time")
        ),
        page.plot(
            plots["curves"],
            "The loss on the validation images (lines), which is minimised, and on test images that nothing has seen "
            "(dashes).",
        ),
        page.paragraph(
            f"With 650 penalties the validation loss is {_share(curves, 'entry', 0)} times that of one penalty, "
            f"the test loss {_share(curves, 'entry', 1)} times (one a pixel: {_share(curves, 'feature', 1)}), "
            f"and on the way there it was as low as {best:.4f}: {PART} validation images cannot judge 650 numbers. The "
            f"library says so: “{warned}”."
        ),
        page.plot(
            plots["pixels"],
            "Penalties of the pixels, one picture a class: light where the model may use the pixel, dark where it is "
            "held at zero.",
        ),
        page.heading("What to type"),
        page.code(SNIPPET),
    ]


def _share(curves: dict[str, Any], penalty: str, which: int) -> str:
    """The last loss in units of that of one penalty."""
    return f"{curves[penalty][which][-1] / curves['scalar'][which][-1]:.2f}"


def _tested(y: Any, X: np.ndarray, t: np.ndarray) -> tuple[float, float]:
    """Mean cross entropy and share of wrong answers on the test images."""
    z = X @ to_numpy(y)
    losses = logsumexp(z, xp=np) - z[np.arange(len(t)), t.astype(int)]
    return float(np.mean(losses)), float(np.mean(np.argmax(z, axis=1) != t))


def _curves(curves: dict[str, Any]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.4))
    axes = figure.add_subplot()
    for penalty, (valid, test) in curves.items():
        line = axes.plot(range(len(valid)), valid, label=SHOWN[penalty])[0] if penalty != "scalar" else None
        if line is None:
            line = axes.axhline(valid[-1], color="grey", label=SHOWN[penalty])
            axes.axhline(test[-1], color="grey", linestyle="--")
        else:
            axes.plot(range(len(test)), test, "--", color=line.get_color())
    axes.set(xlabel="steps", ylabel="loss", yscale="log")
    axes.legend(title="penalties")
    return figure


def _pixels(x: np.ndarray) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.2))
    for digit, axes in enumerate(figure.subplots(2, 5).ravel()):
        image = axes.imshow(x[:64, digit].reshape(8, 8), cmap="magma_r", vmin=-12.0, vmax=12.0)
        axes.set(xticks=[], yticks=[], title=str(digit))
        axes.grid(visible=False)
    figure.colorbar(image, ax=figure.axes, label="log penalty")
    return figure
