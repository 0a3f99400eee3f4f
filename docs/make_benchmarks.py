"""Write the page of benchmarks from their JSON: ``python docs/make_benchmarks.py benchmarks.json``."""

import json
import sys
from pathlib import Path

PAGE = Path(__file__).parent / "guide" / "benchmarks.md"
HEAD = """\
## Benchmarks

optlib and its peers take turns in one process; a ratio is the median over the rounds of the peer's time divided by
optlib's, with the smallest and the largest in brackets. Before anything is timed, all entrants are checked on the full
plan in float64 to have reached the accuracy in the table. Memory is what the arrays of a call take at most beyond its
input. To repeat: `python -m benchmarks transport`.

| Machine | |
| --- | --- |
"""
TABLE = """
| Contest | optlib | Peer | Ratio | Wanted | Accuracy | Memory (MB) |
| --- | --- | --- | --- | --- | --- | --- |
"""


def listed(numbers, form):
    return "<br>".join(f"{name} {format(value, form)}" for name, value in numbers.items())


def lines(row):
    ours, *peers = row["times"]
    for k, peer in enumerate(peers or [None]):
        cells = [row["name"], f"{row['times'][ours]:.4g} {row['label']}"] if k == 0 else ["", ""]
        if peer is None:
            cells += ["", "", ""]
        else:
            middle, low, high = row["ratios"][peer]
            cells += [f"{peer}: {row['times'][peer]:.4g} {row['label']}", f"**{middle:.2f}** ({low:.2f} to {high:.2f})"]
            cells.append("" if row["target"] is None or k else f"{row['target']:g}")
        cells += [listed(row["accuracy"], ".1e"), listed(row["memory"], ".1f")] if k == 0 else ["", ""]
        yield f"| {' | '.join(cells)} |\n"


results = json.loads(Path(sys.argv[1]).read_text())
text = HEAD + "".join(f"| {name} | {value} |\n" for name, value in results["machine"].items())
PAGE.write_text(text + TABLE + "".join(line for row in results["rows"] for line in lines(row)))
