"""Runs the stages of the tour, keeps what is finished, and puts the page together."""

import io
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from optlib import progress
from optlib._core.checkpoint import fingerprint, write_atomic
from optlib.experiments import _page as page
from optlib.experiments._records import environment

#: Modules of this package, in the order of the page. A family adds its stage here.
STAGES = ("colours", "cells", "ratings", "camera", "denoise", "penalties", "portfolios")


@dataclass(frozen=True)
class Context:
    """What a stage is given.

    Attributes
    ----------
    backend : str
        Array library that the solvers run on.
    out : pathlib.Path
        Folder of the page and the images.
    pixels : int
        Least number of pixels of each photograph in a transport problem.
    show : bool
        Whether to draw progress bars.
    stage : str
        Name of the stage.
    mark : str
        Hash of all that decides the result of the stage.
    """

    backend: str
    out: Path
    pixels: int
    show: bool
    stage: str = ""
    mark: str = ""

    @property
    def checkpoint(self) -> Path:
        """File for the state of the stage's solver."""
        return self._work(".npz")

    @property
    def finished(self) -> Path:
        """File for the pieces of the finished stage."""
        return self._work(".json")

    def _work(self, suffix: str) -> Path:
        return self.out / "work" / f"{self.stage}-{self.mark}{suffix}"

    def progress(self, label: str) -> Callable[..., None] | None:
        """Return a progress bar to be passed to a solver as ``callback``."""
        return progress(label) if self.show else None

    def track(self, work: Sequence[Any], label: str) -> Iterable[Any]:
        """Return the pieces of work, with a progress bar."""
        from rich.progress import track

        return track(work, label) if self.show else work

    def save_image(self, name: str, levels: np.ndarray) -> bytes:
        """Write an (h, w, 3) array of levels in [0, 1] as PNG into the folder; return a smaller JPEG for the page."""
        from PIL import Image

        image = Image.fromarray(np.rint(255.0 * np.clip(levels, 0.0, 1.0)).astype(np.uint8))
        write_atomic(self.out / f"{name}.png", _encode(image, "PNG", optimize=True))
        return _encode(image, "JPEG", quality=90)


def _encode(image: Any, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def take_tour(
    out: str | Path, *, backend: str = "numpy", pixels: int = 20_000, fresh: bool = False, show: bool = False
) -> Path:
    """Run all stages that are not finished yet and write ``index.html``.

    Parameters
    ----------
    out : path
        Folder of the page, the images and the work files. A tour that was killed goes on from there.
    backend : {"numpy", "cupy", "torch"}
        Array library that the solvers run on.
    pixels : int
        Least number of pixels of each photograph in a transport problem.
    fresh : bool
        Start again, whatever is in the folder.
    show : bool
        Whether to draw progress bars.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    ValueError
        If the backend cannot be used on this machine.
    """
    out = Path(out)
    about = environment(backend)
    (out / "work").mkdir(parents=True, exist_ok=True)
    for left in [*out.glob(".*.tmp"), *out.glob("work/.*.tmp"), *(out.glob("work/*") if fresh else ())]:
        left.unlink()  # half-written files of a killed tour, or everything
    sections, seconds = [], 0.0
    for name in STAGES:
        module = import_module(f"optlib.experiments.tour.{name}")
        mark = fingerprint((name, backend, pixels, about["optlib"]))[:12]
        context = Context(backend, out, pixels, show, name, mark)
        if not context.finished.exists():
            clock = time.perf_counter()
            try:
                pieces = module.run(context)
            except (ImportError, OSError) as failure:  # the next tour tries again
                missing = page.paragraph(f"Left out, because a file could not be had: {escape(str(failure))}")
                sections.append(page.section(module.TITLE, missing))
                continue
            report = {"pieces": pieces, "seconds": time.perf_counter() - clock}
            write_atomic(context.finished, json.dumps(report).encode())
        report = json.loads(context.finished.read_bytes())
        seconds += report["seconds"]
        sections.append(page.section(module.TITLE, *report["pieces"]))
    sections.append(page.section("How this page was made", page.table(about.items())))
    lead = "Real problems, solved on your machine; every answer comes with a number that proves how good it is."
    footer = f"<p>Made by optlib tour in {seconds:.0f} seconds.</p>"
    path = out / "index.html"
    write_atomic(path, page.document("A tour of optlib", lead, sections, footer).encode())
    return path
