"""PyTorch tensors that require gradients: closed forms keep their graph, iterations leave it behind."""

import pytest

torch = pytest.importorskip("torch")

from optlib import geometry as geo  # noqa: E402
from optlib import linop  # noqa: E402
from optlib.inner import lbfgs  # noqa: E402
from optlib.transport import PointCloud, bures_wasserstein, divergence, emd, solve, wasserstein_1d  # noqa: E402

EYE, LINE = torch.eye(4, dtype=torch.float64), torch.arange(4.0, dtype=torch.float64)
CLOSED = {
    "projection": lambda x: geo.project_simplex(x),
    "prox": lambda x: geo.prox_tv1d(x, 0.1),
    "mirror step": lambda x: geo.Entropy().step(torch.full_like(x, 0.25), x, 0.1),
    "line": lambda x: wasserstein_1d(x, LINE),
    "covariance": lambda x: bures_wasserstein(torch.diag(x + 0.1), EYE),
    "plan": lambda x: solve(torch.outer(LINE, LINE), reg=1.0).plan.barycentric(x),
    "operator": lambda x: linop.as_linear_operator(torch.outer(LINE, LINE)) @ x,
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_are_differentiable(name):
    x = torch.tensor([0.1, 0.7, 0.4, 0.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(CLOSED[name], (x,))


@pytest.mark.filterwarnings("error")
def test_iterations_return_plain_numbers():
    x = torch.rand(5, 2, dtype=torch.float64, requires_grad=True)
    cost = torch.cdist(x, x)
    assert not any(u.requires_grad for u in solve(PointCloud(x, x), reg=0.1).potentials)
    assert not solve(cost, reg=0.1).plan.toarray().requires_grad
    assert not emd(cost).potentials[0].requires_grad
    assert not divergence(PointCloud(x, 2.0 * x), reg=0.1).gradients.x.requires_grad
    assert not linop.cg(cost.T @ cost + EYE.new_ones(5).diag(), x[:, 0]).x.requires_grad
    assert not lbfgs(lambda z: (z @ z, 2.0 * z), x[:, 0]).x.requires_grad
