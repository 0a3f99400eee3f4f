"""The house: arrows point down only, families do not know each other, heavy libraries come in where they are used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "optlib"
FAMILIES = ("bilevel", "sensing", "transport", "online")
FLOORS = {
    "backend": 0,
    "_core": 1,
    "testing": 2,
    "linop": 2,
    "geometry": 2,
    "steps": 2,
    "inner": 3,
    **dict.fromkeys(FAMILIES, 4),
    "datasets": 2,
    "distributed": 5,
    "experiments": 6,
}
MODULES = sorted(ROOT.rglob("*.py"))


def imports(path: Path) -> list[str]:
    """Absolute names of all modules that a file imports, at any depth."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [node.module or ""] + [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def area(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py") if parts else ""


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_point_down(path):
    own = area(path.relative_to(ROOT).parts)
    if own == "__init__":
        return
    for name in imports(path):
        if name.startswith("optlib."):
            other = name.split(".")[1]
            if other == own or other not in FLOORS:
                continue
            assert FLOORS[other] <= FLOORS[own], f"{own} imports {other}, which lies above it"
            assert not (own in FAMILIES and other in FAMILIES), f"family {own} imports family {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_compilers_stay_in_their_files(path):
    roots = {name.partition(".")[0] for name in imports(path)}
    if "numba" in roots:
        assert path.name.startswith("_")
        assert path.stem.endswith("_numba")
    if roots & {"cupy", "cupyx"}:
        assert path.stem.endswith("_cuda") or path.parent.name == "backend"
    if roots & {"matplotlib", "rich", "typer", "pooch"}:
        assert area(path.relative_to(ROOT).parts) in {"experiments", "datasets"} or path.name == "callbacks.py"


def test_import_is_lazy():
    code = (
        "import sys, optlib; print([m for m in ('numba', 'scipy', 'torch', 'cupy', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_import_time():
    code = "import time, numpy; t = time.perf_counter(); import optlib; print(time.perf_counter() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.1
