"""Arguments for the equivalence test of every kernel of `optlib.transport`."""

import numpy as np
from hypothesis import strategies as st

from optlib.transport import acceleration, passes
from tests.transport import emd_cases, plans_cases


@st.composite
def problems(draw, iterated=False):
    """A generator, the four arguments of a cost, weights, potentials and a regularisation.

    For iterations, only problems that are neither solved to rounding after a few nor extreme: there the variants would
    go different ways.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m = draw(st.integers(4 if iterated else 1, 9)), draw(st.sampled_from([7, 8, 9, 600] + [1, 2] * (not iterated)))
    form, size = draw(st.sampled_from(["dense", "transposed", "points"])), 0.2 if iterated else 1.0
    if form == "points":
        d = draw(st.integers(1, 3))
        x, y = size * rng.normal(size=(n, d)), size * rng.normal(size=(m, d))
        entries = (None, x, y, draw(st.sampled_from([1.0, 0.5])))
    else:
        cost = rng.uniform(0.0, 2.0, (m, n)).T if form == "transposed" else rng.uniform(0.0, 2.0, (n, m))
        entries = (cost, None, None, 1.0)
    a, b = (rng.dirichlet(np.full(k, 2.0)) for k in (n, m))
    if not iterated and m > 1 and draw(st.booleans()):
        b[rng.integers(m)] = 0.0
        b /= b.sum()
    eps = draw(st.sampled_from([0.1, 0.3] if iterated else [0.1, 1.0, 20.0]))
    return rng, entries, a, b, size * rng.normal(size=n), size * rng.normal(size=m), eps


@st.composite
def sweeps(draw):
    _, entries, a, b, f, g, eps = draw(problems())
    inv_rho, omega, bound = (draw(st.sampled_from(v)) for v in ([0.0, 0.5], [1.0, 1.5], [np.inf, 0.5]))
    return *entries, f, g, a, b, eps, inv_rho, omega, bound


@st.composite
def products(draw):
    rng, entries, _, b, _, g, eps = draw(problems())
    v = rng.normal(size=(g.size, draw(st.integers(1, 3))))
    h = np.maximum(g + eps * passes.log_weights(b, xp=np), -1e20)  # also without mass in float32
    f = passes._min.generic(*entries, h, xp=np)
    return *entries, f, h, v, eps, draw(st.booleans())


@st.composite
def absorbed(draw):
    _, entries, a, b, f, g, eps = draw(problems())
    return *entries, f, g, a, b, eps, draw(st.sampled_from([0.0, 0.5]))


@st.composite
def surveys(draw):
    rng, entries, _, b, _, g, eps = draw(problems())
    h_plan = np.maximum(g + eps * passes.log_weights(b, xp=np), -1e20)
    f = passes._min.generic(*entries, h_plan, xp=np)
    x, q, h = rng.random(g.size), rng.random(g.size), rng.normal(size=g.size)
    stored = (None, f, g)
    if draw(st.booleans()):
        stored = (
            np.exp(rng.normal(size=(f.size, g.size))),
            f + eps * rng.normal(size=f.size),
            np.maximum(h_plan, -1.0),
        )
    return *stored, *entries, f, h_plan, x, q, h, eps


@st.composite
def minima(draw):
    _, entries, _, _, _, g, _ = draw(problems())
    return *entries, g


@st.composite
def stored(draw):
    rng, entries, _, _, f, g, eps = draw(problems())
    return rng.uniform(0.0, 2.0, (f.size, g.size)) if entries[0] is None else entries[0], f, g, eps


@st.composite
def iterations(draw):
    _, entries, a, b, _, g, eps = draw(problems(iterated=True))
    if entries[0] is not None:
        entries = (np.ascontiguousarray(entries[0]), *entries[1:])
    # few combinations: each of form, penalty and over-relaxation is compiled on its own
    form = draw(st.sampled_from(["stored", "entries"]))
    choices = [("lbfgs", (0.0, 0.0)), ("plain", (0.5, 2.0)), ("overrelaxation", (0.0, 0.0)), ("lbfgs", (0.0, 1.0))]
    method, inv_rho = draw(st.sampled_from(choices if form == "stored" else choices[:1]))
    kernel, alpha, c, r = passes._absorb.generic(*entries, a, g, a, b, eps, inv_rho[0], xp=np)
    beta, f = g, alpha / (1.0 + eps * inv_rho[0])
    point = acceleration.start(f, c, r, g, acceleration.Problem(a, b, eps, inv_rho), method, xp=np)
    source = (kernel, alpha, beta, None, None, None, 1.0) if form == "stored" else (None, alpha, beta, *entries)
    return *source, a, b, eps, inv_rho, method, draw(st.integers(1, 3)), -1.0, *point


@st.composite
def evaluations(draw):
    _, entries, a, b, _, g, eps = draw(problems(iterated=True))
    inv_rho, omega = draw(st.sampled_from([(0.0, 1.0), (0.5, 1.0), (0.0, 1.5)]))
    kernel, alpha, _, _ = passes._absorb.generic(*entries, a, g, a, b, eps, inv_rho, xp=np)
    moved = g + eps * np.random.default_rng(draw(st.integers(0, 2**32 - 1))).normal(size=g.shape)
    return np.ascontiguousarray(kernel), alpha, g, a, b, eps, inv_rho, alpha, moved, omega


@st.composite
def axes(draw):
    """Lines of a grid, few and many, with costs between its places."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m, n, lines = (draw(st.sampled_from(sizes)) for sizes in ([1, 5, 16], [1, 2, 7, 33], [1, 3, 50, 600]))
    z = draw(st.sampled_from([1.0, 300.0])) * rng.normal(size=(n, lines))
    z[rng.random((n, lines)) < 0.2] = -1e20  # weights of zero
    return -draw(st.sampled_from([5.0, 100.0])) * rng.random((m, n)), z


@st.composite
def matrices(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m = draw(st.integers(1, 9)), draw(st.sampled_from([1, 2, 7, 8, 9, 600]))
    x = draw(st.sampled_from([1e-3, 1.0, 1e30])) * rng.normal(size=(n, m))
    x = draw(st.sampled_from([x, np.abs(x), -np.abs(x), x * 0.0]))
    x[rng.integers(n), rng.integers(m)] = draw(st.sampled_from([0.0, 1.0, np.inf, -np.inf]))
    return (draw(st.sampled_from([x, x.T, x[:, ::2], np.repeat(x, 2, axis=1)[:, ::2]])),)


CASES = {
    "transport.cost.extrema": matrices(),
    "transport._axes.log_sum": axes(),
    "transport._axes.largest": axes(),
    "transport.passes._sweep": sweeps(),
    "transport.passes._apply": products(),
    "transport.passes._absorb": absorbed(),
    "transport.passes._survey": surveys(),
    "transport.passes._min": minima(),
    "transport.passes._gibbs": stored(),
    "transport.acceleration.iterate": iterations(),
    "transport.acceleration.evaluate_stored": evaluations(),
    **emd_cases.KERNELS,
    **plans_cases.KERNELS,
}
