"""The guide and the code agree on what the methods need."""

import re
from pathlib import Path

import pytest

from optlib.bilevel._front import METHODS

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "bilevel.md"
ROWS = {
    cells[0].strip("` "): cells[1:]
    for line in PAGE.read_text().split("## Which method")[1].splitlines()
    if line.startswith("| `") and len(cells := [c.strip() for c in line.strip("| ").split("|")]) == 5
}


def test_every_method_has_a_row():
    assert set(ROWS) == set(METHODS)
    assert all(all(cells) for cells in ROWS.values())


class Enough(Exception):
    """Raised by the first oracle that is called."""


@pytest.mark.parametrize("method", METHODS)
def test_oracles(method):
    """A problem gets what it is said to lack, until it lacks nothing: all of that is in the table."""

    def oracle(*args, **options):
        raise Enough

    problem, needed = type("Bare", (), {})(), set()
    while True:
        try:
            METHODS[method](problem)
        except Enough:
            break
        except TypeError as error:
            missing = re.search(r"without the oracle `(\w+)`", str(error))[1]
            needed.add(missing)
            setattr(problem, missing, oracle)
    assert needed - {"start"} <= set(re.findall(r"`(\w+)`", ROWS[method][0])), needed
