"""What the documents say is true: Python blocks of the README and the guide run in order, the worked example works."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import optlib
from optlib.backend.capabilities import SOLVERS
from optlib.testing import check_solver_contract

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]
OPTIONAL = ("cupy", "torch", "jax")


def blocks(page, language="python"):
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def is_missing(library):
    if find_spec(library) is None:
        return True
    if library == "cupy":
        import cupy

        return not cupy.cuda.is_available()
    return False


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: p.name)
def test_blocks(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for number, block in enumerate(blocks(page), 1):
        if any(re.search(rf"\b{library}\b", block) and is_missing(library) for library in OPTIONAL):
            continue
        exec(compile(block, f"{page.name}, block {number}", "exec"), namespace)


def test_commands_are_one_line_each():
    lines = "".join(blocks(ROOT / "README.md", "bash")).splitlines()
    for word in ("optlib tour", "pytest"):
        assert len([line for line in lines if word in line]) == 1


def test_worked_example(monkeypatch, backend):
    solver, case, tests, *_ = blocks(ROOT / "CONTRIBUTING.md", "py")
    module = ModuleType("optlib.transport.semi_relaxed")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where its results are looked for when unpickled
    exec(compile(solver, "semi_relaxed.py", "exec"), module.__dict__)
    del SOLVERS["transport.semi_relaxed"]
    monkeypatch.setattr(optlib.transport, "semi_relaxed", module.semi_relaxed, raising=False)

    cases = {"np": np}
    exec(case, cases)
    args, options = cases["semi_relaxed"](backend)
    check_solver_contract(optlib.transport.semi_relaxed, *args, like=args[0], **options)

    written = {}
    exec(compile(tests, "test_semi_relaxed.py", "exec"), written)
    written["test_small_price_means_nearest_column"](backend)
    if backend.name == "numpy":
        written["test_rate"]()
        written["test_bad_price"]()
