"""Collects what each area declares for the general tests: ``CASES`` of its modules of one name."""

from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import optlib


def collect(module: str) -> dict:
    """Merge the CASES of ``tests/*/<module>.py``."""
    cases: dict = {}
    for path in sorted(Path(__file__).parent.glob(f"*/{module}.py")):
        found = import_module(f"tests.{path.parent.name}.{module}").CASES
        assert not set(cases) & set(found), f"{path} repeats a case"
        cases.update(found)
    return cases


def import_everything() -> list[str]:
    """Import every module of optlib that needs no optional dependency, so that all registries are full."""
    names = []
    for info in walk_packages(optlib.__path__, "optlib."):
        if "_cuda" in info.name or info.name == "optlib.distributed":
            continue
        import_module(info.name)
        names.append(info.name)
    return names
