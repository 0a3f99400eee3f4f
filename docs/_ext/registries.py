"""Pages and tables that follow from the code: the API reference, the capabilities of the solvers, the claims."""

import inspect
import sys
from importlib import import_module
from pathlib import Path

from sphinx.util.docutils import SphinxDirective

# Module -> title of its page, in the order of the reference.
PAGES = {
    "optlib": "Top level",
    "optlib.transport": "Optimal transport",
    "optlib.geometry": "Geometry",
    "optlib.linop": "Linear operators",
    "optlib.steps": "Steps",
    "optlib.datasets": "Datasets",
    "optlib.experiments": "Experiments",
    "optlib.testing": "Testing",
    "optlib._core": "Core (for developers)",
    "optlib.backend": "Backend (for developers)",
}


def write_api_pages(app, config):
    folder = Path(app.srcdir) / "api"
    index = ["API reference", "=============", "", ".. toctree::", "   :maxdepth: 1", ""]
    for name, title in PAGES.items():
        index.append(f"   {title} <{name}>")
        _write(folder / f"{name}.rst", _page(import_module(name), title))
    _write(folder / "index.rst", "\n".join(index) + "\n")


def _write(path, text):
    if not path.exists() or path.read_text() != text:  # unchanged pages are not read again
        path.write_text(text)


def _page(module, title):
    from optlib.backend.kernels import Kernel

    groups = {"Classes": [], "Functions": [], "Modules": []}
    for name in sorted(module.__all__, key=str.lower):
        obj = getattr(module, name)
        if inspect.isclass(obj):
            groups["Classes"].append(name)
        elif inspect.isfunction(obj) or isinstance(obj, Kernel):
            groups["Functions"].append(name)
        elif inspect.ismodule(obj) and obj.__name__ not in PAGES:
            groups["Modules"].append(name)
    name = module.__name__
    lines = [f"{title}: ``{name}``", "=" * (len(title) + len(name) + 6), "", f".. automodule:: {name}", ""]
    lines += [f".. currentmodule:: {name}", ""]
    for group, names in groups.items():
        if names:
            lines += [f".. rubric:: {group}", "", ".. autosummary::", "   :toctree: generated", ""]
            lines += [f"   {entry}" for entry in names] + [""]
    return "\n".join(lines)


def show_kernels_as_functions(app):
    """Put the reference function in the place of every kernel: the reader wants its signature (after the gallery ran)."""
    from optlib.backend.kernels import Kernel

    for module in [m for name, m in sys.modules.items() if name.partition(".")[0] == "optlib"]:
        for name, value in list(vars(module).items()):
            if isinstance(value, Kernel):
                setattr(module, name, value.generic)


class _Table(SphinxDirective):
    def run(self):
        header, *rows = self.rows()
        lines = [".. list-table::", "   :header-rows: 1", ""]
        for row in [header, *rows]:
            for i, cell in enumerate(row):
                lines.append(f"   {'*' if i == 0 else ' '} - {cell}")
        return self.parse_text_to_nodes("\n".join(lines))


class CapabilityTable(_Table):
    """One row a solver: array libraries, whether it is sequential, differentiable inputs."""

    def rows(self):
        from optlib.backend.capabilities import BACKENDS, SOLVERS

        shown = [b for b in BACKENDS if b != "strict"]
        yield ["Solver", *(b for b in shown), "Sequential", "Gradients of the value"]
        for name, row in sorted(SOLVERS.items()):
            marks = ["yes" if b in row.backends else "" for b in shown]
            gradients = ", ".join(f"``{g}``" for g in row.gradients)
            yield [f":func:`optlib.{name}`", *marks, "yes" if row.sequential else "", gradients]


def setup(app):
    app.add_directive("capability-table", CapabilityTable)
    app.connect("config-inited", write_api_pages)
    app.connect("builder-inited", show_kernels_as_functions)
    return {"parallel_read_safe": True}
