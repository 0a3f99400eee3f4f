"""One self-contained HTML page from the rows of one or more runs."""

from html import escape
from pathlib import Path
from typing import Any

from optlib._core.checkpoint import write_atomic
from optlib.experiments import _page as page
from optlib.experiments import experiments
from optlib.experiments._records import Record, UsageError, read
from optlib.experiments.claims import Verdict


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` from the rows that ``optlib run --out FOLDER`` left in a folder.

    Parameters
    ----------
    folder : path
        Folder of the results.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    ValueError
        If the folder holds no rows, or a file of rows is damaged or of an experiment that does not exist.
    """
    folder = Path(folder)
    modules = experiments()
    sections, summary = [], []
    for path in sorted(folder.glob("*.jsonl")):
        record = read(path)
        name = record.header["experiment"]
        if name not in modules:
            raise UsageError(f"{path} holds rows of {name!r}; experiments are {', '.join(modules)}.")
        verdicts = modules[name].check(record.rows)
        summary += verdicts
        sections.append(_experiment(modules[name], record, verdicts))
    if not sections:
        raise UsageError(f"{folder} holds no rows. Fix: run `optlib run ID --out {folder}` first.")
    counts = {status: sum(v.status == status for v in summary) for status in ("pass", "fail", "not reproduced")}
    lead = (
        f"{len(summary)} claims: {counts['pass']} pass, {counts['fail']} fail, {counts['not reproduced']} not "
        "reproduced. A claim fails if a theorem or a promise of the library is missed; it is not reproduced if "
        "somebody's published observation is not seen here. Criteria were fixed before the runs."
    )
    path = folder / "report.html"
    write_atomic(path, page.document("Claims, checked", lead, sections, "<p>Written by optlib report.</p>").encode())
    return path


def _experiment(module: Any, record: Record, verdicts: list[Verdict]) -> str:
    header = record.header
    plots = page.render(lambda: module.plot(record.rows))
    pieces = []
    if not record.finished:
        pieces.append(page.paragraph("This run is not finished: <code>optlib run --resume</code> goes on with it."))
    pieces.append(
        page.table(
            [(v.claim.id, _measured(v), v.claim.criterion, v.status) for v in verdicts],
            ("claim", "found", "expected", "verdict"),
        )
    )
    for verdict in verdicts:
        claim = verdict.claim
        pieces += [
            page.heading(claim.id),
            page.paragraph(f"{page.badge(verdict.status)} {escape(claim.statement)}"),
            page.paragraph(
                f"{escape(claim.quantity.capitalize())}: <strong>{_measured(verdict)}</strong>, expected "
                f"{escape(str(claim.criterion))}. <small>Source: {escape(claim.source)}.</small>"
            ),
        ]
        if claim.note:
            pieces.append(page.paragraph(escape(claim.note)))
        if claim.id in plots:
            pieces.append(page.plot(plots[claim.id], claim.quantity))
    about = {"scale": header["scale"], "backend": header["backend"], "seed": header["seed"], **header["environment"]}
    about |= {"started": header["started"], "rows": len(record.rows)}
    about["time"] = f"{sum(row['seconds'] for row in record.rows):.1f} s"
    pieces += [page.heading("How it was run"), page.table(about.items())]
    return page.section(module.TITLE, *pieces)


def _measured(verdict: Verdict) -> str:
    return "–" if verdict.measured is None else f"{verdict.measured:.4g}"
