"""Gradients by differentiating iterations: gradient steps on the inner problem, forwards or backwards."""

import math
from collections.abc import Iterator

from optlib._core import validation as check
from optlib.backend import Array
from optlib.bilevel.call import Call, HyperResult
from optlib.bilevel.problem import require, vdot

GROWTH = 1e6  # of the adjoint of an iteration, beyond which its step is too long


def unrolled(call: Call, y: Array, mode: str) -> HyperResult:
    """Value and gradient after gradient steps from y, differentiated forwards or backwards."""
    require(call.problem, ("hvp", "cross_jvp" if mode == "forward" else "cross_vjp"), f'mode="{mode}"')
    xp, gamma, x = call.xp, call.length(), call.x
    if mode == "forward":  # Z <- (I - gamma H) Z - gamma C', one column a hyperparameter
        size = math.prod(x.shape)
        eye = xp.eye(size, dtype=x.dtype, device=x.device)
        basis = [xp.reshape(eye[k, :], x.shape) for k in range(size)]
        columns = [xp.zeros_like(y) for _ in basis]
        for _ in range(call.steps):
            products = call.at(y)
            columns = [
                z - gamma * (products.hvp(z) + products.cross_jvp(e)) for z, e in zip(columns, basis, strict=True)
            ]
            y = y - gamma * call.inner(y)[2]
        value, grad_x, grad_y = call.outer(y)
        gradient = grad_x + xp.reshape(xp.stack([vdot(z, grad_y, xp=xp) for z in columns]), x.shape)
    else:
        value, gradient, _, y = reverse(call, y)
    _, _, g = call.inner(y)
    call.check_finite(y, value, g, gradient)
    return HyperResult(
        value=float(value), gradient=gradient, y=y, q=None, error_bound=None, correction=0.0,
        residual=(call.norm(g), 0.0), counts=call.counts, mode=mode,
    )  # fmt: skip


def reverse(call: Call, y: Array) -> tuple[Array, Array, Array, Array]:
    """Gradient steps from y: value of F after them, its gradients in x and in the first y, and the last y."""
    gamma, every = call.length(), math.isqrt(call.truncate) if call.recompute else 1
    for _ in range(call.steps - call.truncate):
        y = y - gamma * call.inner(y)[2]
    kept: list[Array] = []
    for t in range(call.truncate):
        if t % every == 0:
            kept.append(y)
        y = y - gamma * call.inner(y)[2]
    value, gradient, alpha = call.outer(y)
    call.check_finite(y, value, value, alpha)
    limit = GROWTH * max(call.norm(alpha), 1e-300)
    for t, before in enumerate(_backwards(call, kept, every, gamma)):
        products = call.at(before)
        gradient = gradient - gamma * products.cross_vjp(alpha)
        alpha = alpha - gamma * call.transposed(before, products)(alpha)
        if t % 10 == 9 and not call.norm(alpha) <= limit:
            got = f"{gamma:.3g}, with which the adjoint grows"
            raise check.error("step", got, "a step below 2 / lipschitz(x)", "leave it to the default")
    return value, gradient, alpha, y


def _backwards(call: Call, kept: list[Array], every: int, gamma: float) -> Iterator[Array]:
    """The last iterates, last first, from every so many of them."""
    left = call.truncate
    while kept:
        between = [kept.pop()]
        while (len(kept) * every) + len(between) < left:
            between.append(between[-1] - gamma * call.inner(between[-1])[2])
        left -= len(between)
        while between:
            yield between.pop()
