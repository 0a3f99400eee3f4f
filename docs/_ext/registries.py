"""Pages and tables that follow from the code: the API reference, the capabilities of the solvers, the claims."""

import inspect
from importlib import import_module
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

# Module -> title of its page, in the order of the reference.
PAGES = {
    "optlib": "Top level",
    "optlib.transport": "Optimal transport",
    "optlib.sensing": "Low-rank sensing",
    "optlib.online": "Online learning",
    "optlib.bilevel": "Bilevel optimization",
    "optlib.inner": "Inner solvers",
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
    folder.mkdir(exist_ok=True)
    documented = {}  # object -> its page: what is exported twice has it where it comes first
    index = ["API reference", "=============", "", ".. toctree::", "   :maxdepth: 1", ""]
    for name, title in PAGES.items():
        index.append(f"   {title} <{name}>")
        _write(folder / f"{name}.rst", _page(import_module(name), title, documented))
    _write(folder / "index.rst", "\n".join(index) + "\n")
    for path in (folder / "generated").glob("*.rst"):  # of an earlier build
        if path.name not in documented.values():
            path.unlink()


def _write(path, text):
    if not path.exists() or path.read_text() != text:  # unchanged pages are not read again
        path.write_text(text)


def _page(module, title, documented):
    groups = {"Classes": [], "Functions": [], "Modules": []}
    for name in sorted(module.__all__, key=str.lower):
        obj = getattr(module, name)
        if id(obj) in documented:
            continue
        documented[id(obj)] = f"{module.__name__}.{name}.rst"
        if inspect.isclass(obj):
            groups["Classes"].append(name)
        elif inspect.isfunction(obj):
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


class _Table(SphinxDirective):
    """A table whose rows come from a registry; the first row is the header, a cell is text or a list of nodes."""

    def rows(self):
        raise NotImplementedError

    def run(self):
        header, *rows = self.rows()
        group = nodes.tgroup(cols=len(header))
        group += [nodes.colspec(colwidth=1) for _ in header]
        group += nodes.thead("", self._row(header))
        group += nodes.tbody("", *(self._row(row) for row in rows))
        return [nodes.table("", group, classes=["colwidths-auto"])]

    @staticmethod
    def _row(cells):
        content = [[nodes.Text(cell)] if isinstance(cell, str) else cell for cell in cells]
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in content))


def _link(name):
    """Reference to the page of a function or class."""
    target = addnodes.pending_xref(
        "", refdomain="py", reftype="obj", reftarget=f"optlib.{name}", refexplicit=False, refwarn=True
    )
    target += nodes.literal("", name)
    return target


class CapabilityTable(_Table):
    """One row a solver: array libraries, whether it is sequential, differentiable inputs."""

    def rows(self):
        from optlib.backend.capabilities import BACKENDS, SOLVERS

        shown = [b for b in BACKENDS if b != "strict"]
        yield ["Solver", *shown, "Sequential", "Gradients of the value"]
        for name, row in sorted(SOLVERS.items()):
            marks = ["yes" if b in row.backends else "no" for b in shown]
            yield [[_link(name)], *marks, "yes" if row.sequential else "no", ", ".join(row.gradients) or "none"]


class ClaimsTable(_Table):
    """One row a claim: statement and what is known of it, source, what is measured, the criterion."""

    def rows(self):
        from optlib.experiments import experiments

        yield ["Claim", "Statement", "Source", "Measured", "Holds if", "Kind"]
        for module in experiments().values():
            for claim in module.CLAIMS:
                kind = "theorem or promise" if claim.proven else "published observation"
                yield [
                    [nodes.literal("", claim.id)],
                    f"{claim.statement} {claim.note}".strip(),
                    claim.source,
                    claim.quantity,
                    str(claim.criterion),
                    kind,
                ]


def setup(app):
    app.add_directive("capability-table", CapabilityTable)
    app.add_directive("claims-table", ClaimsTable)
    app.connect("config-inited", write_api_pages)
    return {"parallel_read_safe": True}
