"""What the Krylov methods share: set-up of the system, the loop with its guard against drift, the certificate.

Recursive residuals drift from the true ones. Therefore no run ends as converged before the residual was recomputed;
and where a recursion claims what its point does not keep, the method starts afresh from that point (decided every 32
iterations, so that iterates do not depend on the checks). Right sides are scaled to norm 1: results do not depend on
units.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Result, Status, Step, Steps, prepare_init, run
from optlib._core import validation as check
from optlib._core.checkpoint import probe
from optlib.backend import Array, is_numpy, linalg, to_numpy
from optlib.linop.base import Identity, LinearOperator, VStack, _empty
from optlib.linop.wrap import as_linear_operator, wrapped

REFRESH = 32  # iterations between two comparisons with the true residual
NEGLIGIBLE = 4.0  # units of rounding of the right side: the recursion has nothing to say about smaller residuals


class System(NamedTuple):
    """A linear system in normal form: checked operands, right side ``rhs = b / unit`` of norm 1, starting point."""

    A: LinearOperator
    rhs: Array
    unit: Array
    x: Array | None
    state: Any
    matvec: Callable[[Array], Array]
    rmatvec: Callable[[Array], Array]
    dot: Callable[[Array, Array], Array]
    calls: dict[str, int]

    def residual(self, x: Array | None) -> tuple[Array, Array]:
        """Return ``x`` (zero by default) and the scaled residual ``(b - A x) / unit``."""
        if x is None:
            shape = (self.A.shape[1], *self.rhs.shape[1:])
            return self.A.xp.zeros(shape, dtype=self.rhs.dtype, device=self.A.device), self.rhs
        return x, self.rhs - self.matvec(x) / self.unit


def linear_system(
    A: Any, b: Any, init: Any, state_class: type, *, square: bool, damp: float = 0.0, symmetric: bool = True
) -> System:
    """Check the arguments of a solver and bring them to normal form."""
    if callable(A) and not isinstance(A, LinearOperator) and square:
        xp, device, dtype = check.common(b=b)
        b = check.array("b", b, xp=xp, dtype=dtype, device=device)
        A = as_linear_operator(A, shape=(b.shape[0] if b.ndim else 0,) * 2, like=b, symmetric=symmetric)
    else:
        A = as_linear_operator(A)
        xp, device, dtype = check.common(A=_empty(A), b=b)
        b = check.array("b", b, xp=xp, dtype=dtype, device=device)
        A = A.astype(dtype)
    m, n = A.shape
    if square and m != n:
        raise check.error("A", f"shape {A.shape}", "a square matrix", "use lsqr")
    if b.ndim not in (1, 2) or b.shape[0] != m or 0 in b.shape[1:]:
        raise check.error("b", f"shape {tuple(b.shape)}", f"shape ({m},) or ({m}, k) with k >= 1")
    shape = (n, *b.shape[1:])
    x, state = prepare_init(init, state_class)
    if x is not None:
        check.common(b=b, init=x)
        x = check.array("init", x, xp=xp, shape=shape, dtype=dtype, device=device)
    if damp:
        A = VStack(A, damp * Identity(n, like=_empty(A)))
        b = xp.concat([b, xp.zeros(shape, dtype=dtype, device=device)], axis=0)
    norm = linalg.norm(b, axis=0, xp=xp)
    unit = xp.where(norm > 0, norm, xp.ones_like(norm))
    rhs = b / unit
    if state is not None:
        same = state.x.shape == shape and bool(xp.all(state.rhs == rhs) & xp.all(state.unit == unit))
        x, state = (None, state) if same else (check.array("init", state.x, xp=xp, shape=shape), None)
    if x is not None:
        x = xp.where(norm > 0, x, xp.zeros_like(x))
    calls = {"matvec": 0}

    def matvec(v: Array) -> Array:
        calls["matvec"] += 1
        return A._matvec(v)

    def rmatvec(v: Array) -> Array:
        calls["rmatvec"] = calls.get("rmatvec", 0) + 1
        return A._rmatvec(v)

    def dot(u: Array, v: Array) -> Array:
        return u @ v if u.ndim == 1 else xp.sum(u * v, axis=0)

    return System(A, rhs, unit, x, state, matvec, rmatvec, dot, calls)


def as_preconditioner(M: Any, system: System) -> Callable[[Array], Array] | None:
    """Return the product with a preconditioner, after checks."""
    if M is None:
        return None
    A, rhs = system.A, system.rhs
    if callable(M) and not isinstance(M, LinearOperator):
        M = wrapped("preconditioner", M, A.shape, like=_empty(A), symmetric=True)
    M = wrapped("preconditioner", M)
    check.common(A=rhs, preconditioner=_empty(M))
    if M.shape != A.shape:
        raise check.error("preconditioner", f"shape {M.shape}", f"the shape {A.shape} of A")
    return M.astype(A.dtype)._matvec


def largest(*values: Array, xp: Any) -> list[float]:
    """Bring the largest entry of each array to the host in one transfer."""
    if is_numpy(xp):
        return [float(v.max()) for v in values]
    return to_numpy(xp.stack([xp.max(xp.astype(v, values[0].dtype)) for v in values])).tolist()


def _steps(
    state: Any,
    *,
    advance: Callable[[Any], Any],
    renewed: Callable[[Any], Any],
    estimate: Callable[[Any], Array],
    tol: float | None,
    look: bool,
    calls: dict[str, int],
    xp: Any,
) -> Steps:
    """Run a Krylov method in blocks.

    ``estimate(state)`` is the stopping quantity of each column by the recursions, ``renewed(state)`` the same point
    started afresh, with the true residual. ``look`` at the estimate between two checks as well.
    """
    limit = -math.inf if tol is None else tol
    claim = max(limit, NEGLIGIBLE * float(xp.finfo(state.x.dtype).eps))
    best, last, looked, met = math.inf, -1, -1, False

    def stop() -> float:
        nonlocal best, last
        step.status = None
        value, broken = largest(estimate(state), state.broken, xp=xp)
        if tol is not None and value <= claim:
            (value,) = largest(estimate(renewed(state)), xp=xp)
            if value > limit:  # the recursion claims too much; has the start afresh since the last such claim helped?
                epoch = state.nit // REFRESH
                if epoch > last >= 0 and value > 0.9 * best:
                    step.status = Status.STALLED
                best, last = min(best, value), epoch
        if broken and value > limit:
            step.status = Status.BREAKDOWN
        return value

    while True:
        step = Step(state.x, state.nit, state, stop=stop, counts=calls, status=Status.CONVERGED if met else None)
        budget = yield step
        for _ in range(budget):
            state = advance(state)
            if tol is not None and state.nit % REFRESH == 0:
                fresh = renewed(state)
                false = (estimate(state) <= claim) & (estimate(fresh) > limit)
                pairs = zip(fresh, state, strict=True)
                state = type(state)(*(xp.where(false, f, s) if hasattr(f, "ndim") else s for f, s in pairs))
            met = look and looked < state.nit // REFRESH and largest(estimate(state), xp=xp)[0] <= limit
            if met:  # for ``stop`` to confirm
                looked = state.nit // REFRESH
                break


def tolerance(tol: float | None, atol: float, unit: Array, xp: Any) -> tuple[float | None, Any]:
    """Return the driver's tolerance and the weight of each column that makes it ``max(tol |b|, atol)``."""
    atol = check.scalar("atol", atol, low=0.0)
    if tol is not None:
        tol = check.scalar("tol", tol, low=0.0)
    if tol is None or atol == 0:
        return tol, 1.0
    if tol == 0:
        return atol, unit
    return tol, xp.minimum(unit * (tol / atol), xp.ones_like(unit))


def run_krylov(
    method: str,
    system: System,
    start: Callable[..., Any],
    advance: Callable[[Any], Any],
    estimate: Callable[[Any], Array],
    kind: Callable[[Any], str],
    options: Callable[[], Any],
    *,
    tol: float | None,
    checkpoint: Any,
    look: bool = False,
    **keywords: Any,
) -> Result:
    """Run a method given by its functions.

    ``start(x, old)`` begins at a point, with what is worth keeping of an old state; ``kind(state)`` names the
    certificate; ``options()`` returns what a checkpoint depends on besides the system; ``look`` whether to end at the
    iteration that met the tolerance instead of the next check.
    """
    xp, point, fresh = system.A.xp, None, None

    def renewed(state: Any) -> Any:
        nonlocal point, fresh
        if point is not state.x:  # the check that ends a run and the certificate ask for the same point
            point, fresh = state.x, start(state.x, state)
        return fresh

    def finish(step: Step) -> dict[str, Any]:
        true = renewed(step.state)
        (value,) = largest(estimate(true), xp=xp)
        return {"certificate": Certificate(kind(true), value, tol=tol)}

    problem = None
    if checkpoint is not None:  # the image of a fixed vector tells matrices apart, whatever they are made of
        vector = xp.cos(xp.arange(system.A.shape[1], dtype=system.rhs.dtype, device=system.A.device))
        problem = (probe(system.matvec(vector)), system.rhs, system.unit, tol, options())
    return run(
        lambda state: _steps(
            state, advance=advance, renewed=renewed, estimate=estimate, tol=tol, look=look, calls=system.calls, xp=xp
        ),
        state=start(system.x) if system.state is None else system.state,
        like=system.rhs,
        xp=xp,
        method=method,
        finish=finish,
        tol=tol,
        checkpoint=checkpoint,
        problem=problem,
        **keywords,
    )
