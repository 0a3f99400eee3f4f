"""The sets that learners decide in: those of mirror maps, and what is asked of a set."""

import math
from dataclasses import dataclass
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array
from optlib.geometry import Ball, Box, Domain, MirrorMap, Simplex
from optlib.geometry.mirror.quadratic import quadratic_on_ball, quadratic_on_box, quadratic_on_simplex


def vector_domain(domain: Any) -> Domain:
    """Check that a domain is one of vectors."""
    if not isinstance(domain, Domain) or len(domain.shape) != 1:
        got = repr(domain) if isinstance(domain, Domain) else type(domain).__name__
        raise check.error("domain", got, "a domain of vectors", "for example optlib.geometry.Ball(n)", TypeError)
    return domain


def require_bounded(size: float, fix: str) -> None:
    """Refuse an unbounded domain where a bound is needed."""
    if math.isinf(size):
        raise check.error("domain", "an unbounded set", "a bounded set", fix)


def metric_domain(domain: Any) -> Domain:
    """Check that a domain is bounded and has exact projections in any metric."""
    vector_domain(domain)
    middle = getattr(domain, "middle", None)
    if not isinstance(domain, (Ball, Box, Simplex)) or middle is not None:
        got = type(domain).__name__ + (" with a middle" if middle is not None else "")
        raise check.error("domain", got, "a bounded Box, a Simplex, or a Ball around 0", "use OGD", TypeError)
    require_bounded(domain.diameter, "use CoinBetting, which needs no bound")
    return domain


def metric_step(domain: Domain, metric: Array, theta: Array, xp: Any) -> Array:
    """Minimise ``x' metric x / 2 - theta' x`` over a ball, box or simplex."""
    if isinstance(domain, Ball):
        return quadratic_on_ball(theta, metric, domain.radius, xp=xp)
    if isinstance(domain, Box):
        lower, upper = (xp.broadcast_to(bound, theta.shape) for bound in domain._bounds(theta, xp))
        return quadratic_on_box(theta, metric, lower, upper, xp=xp)
    return quadratic_on_simplex(theta, metric, domain.mass, xp=xp)


def vector_mirror(mirror: Any, n: int) -> MirrorMap:
    """Check that a mirror map is one of vectors, strongly convex on its set."""
    if not isinstance(mirror, MirrorMap) or mirror.point_ndim != 1:
        got = repr(mirror) if isinstance(mirror, MirrorMap) else type(mirror).__name__
        expected = "a mirror map of vectors"
        raise check.error("mirror", got, expected, "for example optlib.geometry.Entropy()", TypeError)
    if not mirror.sigma(n) > 0.0:
        raise check.error("mirror", repr(mirror), "a strongly convex map", "bound its set, by `radius` or `mass`")
    return mirror


@dataclass(frozen=True, eq=False)
class FlatDomain(Domain):
    """A domain of matrices, whose points are given row by row as vectors."""

    inner: Domain

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a point."""
        return (math.prod(self.inner.shape),)

    @property
    def diameter(self) -> float:
        """Diameter of the set."""
        return self.inner.diameter

    @property
    def radius(self) -> float:
        """Radius of the set."""
        return self.inner.radius

    def _arrays(self) -> dict[str, Array]:
        return {}

    def _matrices(self, x: Array, xp: Any) -> Array:
        return xp.reshape(x, (*x.shape[:-1], *self.inner.shape))

    def _project(self, x: Array, xp: Any) -> Array:
        return xp.reshape(self.inner.project(self._matrices(x, xp), xp=xp), x.shape)

    def _violation(self, x: Array, xp: Any) -> Array:
        return self.inner._violation(self._matrices(x, xp), xp)

    def _linear_minimizer(self, g: Array, xp: Any) -> Array:
        return xp.reshape(self.inner.linear_minimizer(self._matrices(g, xp), xp=xp), g.shape)

    def _center(self, like: Array, xp: Any) -> Array:
        return xp.reshape(self.inner.center(like), self.shape)
