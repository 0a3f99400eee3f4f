"""Accounts of a game: what has to be remembered of the rounds to know the regret against a comparator."""

from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, array_namespace, asarray_like, to_numpy
from optlib.geometry import Domain
from optlib.online.comparators import switching_rounds


class Best:
    """Account of the best fixed decision: the sum of the gradients, or what the environment knows."""

    def __init__(self, domain: Domain, best: Any) -> None:
        self._domain, self._best = domain, best

    def start(self, zeros: Array, xp: Any) -> Array:
        return zeros

    def add(self, reference: Array, block: Array, total: Array, t: int, xp: Any, linear: bool = True) -> Array:
        return reference + total

    def point(self, reference: Array, rounds: int, xp: Any) -> Array:
        if self._best is not None:
            return self._best(rounds)[0]
        return self._domain.linear_minimizer(reference, xp=xp)

    def regret(self, loss: Array, linear: Array, reference: Array, rounds: int, xp: Any) -> Array:
        if self._best is not None:
            return loss - self._best(rounds)[1]
        return linear - xp.sum(reference * self._domain.linear_minimizer(reference, xp=xp), axis=-1)


class Path:
    """Account of the loss of a fixed decision (n,), or of one for each round (rounds, n)."""

    def __init__(self, points: Array, value: Any) -> None:
        self.points, self._value = points, value

    def start(self, zeros: Array, xp: Any) -> Array:
        return zeros[:, 0]

    def _at(self, t: int) -> Array:
        return self.points if self.points.ndim == 1 else self.points[t, ...]

    def add(self, reference: Array, block: Array, total: Array, t: int, xp: Any, linear: bool = True) -> Array:
        if not linear and self._value is not None:
            return reference + self._value(t, self._at(t))
        if self.points.ndim == 1:
            return reference + xp.sum(total * self.points, axis=-1)
        for k in range(block.shape[0]):
            reference = reference + xp.sum(block[k, ...] * self._at(t + k), axis=-1)
        return reference

    def point(self, reference: Array, rounds: int, xp: Any) -> Array:
        return self._at(max(rounds - 1, 0))

    def regret(self, loss: Array, linear: Array, reference: Array, rounds: int, xp: Any) -> Array:
        return loss - reference


class Switches:
    """Account of the best switching sequence."""

    def __init__(self, switches: int) -> None:
        self._switches = switches

    def start(self, zeros: Array, xp: Any) -> Array:
        return xp.zeros((zeros.shape[0], self._switches + 1, zeros.shape[1]), dtype=zeros.dtype, device=zeros.device)

    def add(self, reference: Array, block: Array, total: Array, t: int, xp: Any, linear: bool = True) -> Array:
        return switching_rounds(block, reference, xp=xp)

    def point(self, reference: Array, rounds: int, xp: Any) -> None:
        return None

    def regret(self, loss: Array, linear: Array, reference: Array, rounds: int, xp: Any) -> Array:
        return linear - xp.min(reference[:, -1, :], axis=-1)


def as_points(comparator: Any, like: Array, n: int) -> Array:
    """Check a comparator given as a point or a path."""
    xp = array_namespace(like)
    host = np.asarray(to_numpy(comparator)) if not isinstance(comparator, (list, tuple)) else np.asarray(comparator)
    if host.ndim not in (1, 2) or host.shape[-1] != n:
        raise check.error("comparator", f"shape {host.shape}", f"shape ({n},) or (rounds, {n})")
    return check.array("comparator", asarray_like(host, like), xp=xp)
