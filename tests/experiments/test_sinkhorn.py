import math

import numpy as np
import pytest

from optlib.datasets import make_transport
from optlib.experiments import _records, sinkhorn


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return _records.run_experiment(sinkhorn, tmp_path_factory.mktemp("rows")).rows


def test_no_claim_fails(rows):
    failed = [(v.claim.id, v.measured) for v in sinkhorn.check(rows) if v.status == "fail"]
    assert not failed
    assert all(v.status != "not measured" for v in sinkhorn.check(rows))


def test_every_bias_row_is_certified(rows):
    assert all(row["success"] for row in rows if row["part"] == "bias")


def test_a_wrong_measurement_is_caught(rows):
    """The check is not a rubber stamp: each kind of broken row turns its claim into a failure."""

    def status(claim, change):
        broken = [row | change(row) for row in rows]
        return {v.claim.id: v.status for v in sinkhorn.check(broken)}[claim]

    assert status("sinkhorn.rate.birkhoff", lambda row: {"birkhoff": row.get("rate", 1.0) / 1.1}) == "fail"
    assert status("sinkhorn.rate.local", lambda row: {"local_rate": 0.5}) == "fail"
    assert status("sinkhorn.bias.bound", lambda row: {"bound": 1e-9}) == "fail"
    assert status("sinkhorn.bias.sign", lambda row: {"excess": -1e-6}) == "fail"
    assert status("sinkhorn.bounds", lambda row: {"lower": 1.0}) == "fail"
    assert status("sinkhorn.anderson", lambda row: {"passes": 10}) == "fail"
    assert status("sinkhorn.overrelaxation", lambda row: {"rate": 0.999}) == "not reproduced"


def test_figures(rows):
    for figure in sinkhorn.plot(rows).values():
        assert figure.axes[0].lines


def test_observed_rate_of_a_known_sequence():
    assert sinkhorn._observed_rate([0.3**k for k in range(60)]) == pytest.approx(0.3)


def test_local_rate_of_independent_plan_is_zero():
    a, b = np.array([0.2, 0.8]), np.array([0.5, 0.3, 0.2])
    assert sinkhorn._local_rate(np.outer(a, b), a, b) == pytest.approx(0.0, abs=1e-30)


def test_best_rate():
    assert sinkhorn._best_rate(0.0) == 0.0
    assert sinkhorn._best_rate(0.96) == pytest.approx(2.0 / 1.2 - 1.0)


def test_hilbert_diameter_by_brute_force():
    cost = make_transport("uniform", 6, 5, rng=0).cost
    expected = max(
        cost[i, j] + cost[k, l] - cost[i, l] - cost[k, j]
        for i in range(6) for k in range(6) for j in range(5) for l in range(5)
    )  # fmt: skip
    assert sinkhorn._hilbert_diameter(cost) == pytest.approx(expected)


def test_linear_program_of_sorted_points():
    x, y = np.sort(np.random.default_rng(0).random((2, 8)))
    uniform = np.full(8, 1 / 8)
    optimum = sinkhorn._linear_program((x[:, None] - y) ** 2, uniform, uniform)
    assert optimum == pytest.approx(float(np.mean((x - y) ** 2)))


def test_entropy():
    assert sinkhorn._entropy(np.array([0.0, 0.25, 0.75])) == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3))
