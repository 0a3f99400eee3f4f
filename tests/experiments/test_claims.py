import math

import pytest

from optlib.experiments import Claim, Criterion, experiments, grid, judge, log_slope, product

CLAIM = Claim("x.y", "statement", "source", "quantity", Criterion(0.0, 1.0))


@pytest.mark.parametrize(
    ("criterion", "inside", "outside", "text"),
    [
        (Criterion(high=1.0), -5.0, 1.1, "≤ 1"),
        (Criterion(low=0.25), 0.25, 0.2, "≥ 0.25"),
        (Criterion(0.8, 1.2), 1.0, 1.3, "0.8 to 1.2"),
    ],
)
def test_criterion(criterion, inside, outside, text):
    assert criterion.holds(inside)
    assert not criterion.holds(outside)
    assert not criterion.holds(math.nan)
    assert str(criterion) == text


def test_verdicts():
    observation = Claim("x.z", "statement", "source", "quantity", Criterion(high=1.0), proven=False)
    found = {v.claim.id: v.status for v in judge((CLAIM, observation), {"x.y": 2.0, "x.z": 2.0})}
    assert found == {"x.y": "fail", "x.z": "not reproduced"}
    assert CLAIM.judge(0.5).status == "pass"
    assert CLAIM.judge(math.nan).status == "fail"
    assert CLAIM.judge(None).status == "not measured"


def test_rows_do_not_depend_on_which_are_done():
    @grid(lambda scale: product(n=[1, 2], repeat=[0, 1]))
    def run(case, backend, rng):
        return {"draw": rng.random()}

    rows = list(run("quick", "numpy", 3))
    assert len(rows) == 4
    assert rows[0]["draw"] == rows[2]["draw"] != rows[1]["draw"]  # the repeat decides, so that cases can be compared
    assert list(run("quick", "numpy", 3, done=[rows[0], rows[3]])) == [rows[1], rows[2]]
    assert list(run("quick", "numpy", 3, done=rows)) == []
    assert next(run("quick", "numpy", 4))["draw"] != rows[0]["draw"]


def test_log_slope():
    assert log_slope([1.0, 10.0, 100.0], [3.0, 300.0, 30000.0]) == pytest.approx(2.0)


def test_every_module_with_claims_is_found_and_complete():
    modules = experiments()
    assert "sinkhorn" in modules
    assert "report" not in modules
    for name, module in modules.items():
        assert module.TITLE
        for scale in ("quick", "paper"):
            assert module.run.cases(scale)
        ids = [claim.id for claim in module.CLAIMS]
        assert len(set(ids)) == len(ids)
        assert all(claim.id.startswith(f"{name}.") for claim in module.CLAIMS)
        assert [v.status for v in module.check([])] == ["not measured"] * len(ids)
        assert set(module.plot([])) <= set(ids)
