"""Losses of linear predictions: values, slopes, conjugates and proximal steps of functions of one number."""

from abc import ABC, abstractmethod
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, special


class ModelLoss(ABC):
    """A convex loss ``phi(p)`` of a prediction p, for a target y."""

    targets = "finite numbers"

    def fits(self, y: Array, xp: Any) -> Array:
        """Whether targets are what they must be."""
        return xp.isfinite(y)

    @abstractmethod
    def value(self, p: Array, y: Array, xp: Any) -> Array:
        """Return the loss."""

    @abstractmethod
    def slope(self, p: Array, y: Array, xp: Any) -> Array:
        """Return a subgradient with respect to the prediction."""


class ProximalLoss(ModelLoss):
    """A loss with its conjugate and proximal steps."""

    @abstractmethod
    def conj(self, s: Array, y: Array, xp: Any) -> Array:
        """Return ``max_p s p - phi(p)``, for slopes s that occur."""

    def prox_slope(self, p: Array, c: Array, y: Array, xp: Any) -> Array:
        """Return the slope s at ``p - c s``, the proximal step of size ``c > 0``."""
        return bisect(lambda s: self.slope(p - c * s, y, xp) - s, self.slope(p, y, xp), xp)


class Squared(ProximalLoss):
    """``(p - y)^2 / 2``."""

    def value(self, p: Array, y: Array, xp: Any) -> Array:
        return 0.5 * xp.square(p - y)

    def slope(self, p: Array, y: Array, xp: Any) -> Array:
        return p - y

    def conj(self, s: Array, y: Array, xp: Any) -> Array:
        return s * (0.5 * s + y)

    def prox_slope(self, p: Array, c: Array, y: Array, xp: Any) -> Array:
        return (p - y) / (1.0 + c)


class Absolute(ProximalLoss):
    """``max(|p - y| - tube, 0)``: the absolute loss, or with a tube the eps-insensitive one."""

    def __init__(self, tube: float = 0.0) -> None:
        self.tube = tube

    def value(self, p: Array, y: Array, xp: Any) -> Array:
        return _positive(xp.abs(p - y) - self.tube, xp)

    def slope(self, p: Array, y: Array, xp: Any) -> Array:
        return xp.where(xp.abs(p - y) > self.tube, xp.sign(p - y), xp.zeros_like(p))

    def conj(self, s: Array, y: Array, xp: Any) -> Array:
        return s * y + self.tube * xp.abs(s)

    def prox_slope(self, p: Array, c: Array, y: Array, xp: Any) -> Array:
        outside = _positive(xp.abs(p - y) - self.tube, xp) / c
        return xp.sign(p - y) * xp.minimum(outside, xp.ones_like(p))


class _Labels(ProximalLoss):
    targets = "-1 or 1"

    def fits(self, y: Array, xp: Any) -> Array:
        return xp.abs(y) == 1.0


class Hinge(_Labels):
    """``max(1 - y p, 0)``."""

    def value(self, p: Array, y: Array, xp: Any) -> Array:
        return _positive(1.0 - y * p, xp)

    def slope(self, p: Array, y: Array, xp: Any) -> Array:
        return xp.where(y * p < 1.0, -y, xp.zeros_like(p))

    def conj(self, s: Array, y: Array, xp: Any) -> Array:
        return s * y

    def prox_slope(self, p: Array, c: Array, y: Array, xp: Any) -> Array:
        return -y * xp.minimum(_positive(1.0 - y * p, xp) / c, xp.ones_like(p))


class Logistic(_Labels):
    """``log(1 + exp(-y p))``."""

    def value(self, p: Array, y: Array, xp: Any) -> Array:
        return _positive(-y * p, xp) + xp.log1p(xp.exp(-xp.abs(p)))

    def slope(self, p: Array, y: Array, xp: Any) -> Array:
        return -y * special.expit(-y * p, xp=xp)

    def curvature(self, p: Array, xp: Any) -> Array:
        """Second derivative."""
        return special.expit(p, xp=xp) * special.expit(-p, xp=xp)

    def conj(self, s: Array, y: Array, xp: Any) -> Array:
        q = xp.clip(-s * y, 0.0, 1.0)
        return special.xlogy(q, q, xp=xp) + special.xlogy(1.0 - q, 1.0 - q, xp=xp)


class Poisson(ModelLoss):
    """``exp(p) - y p``, linear beyond a p that no fit reaches."""

    targets = ">= 0"

    def fits(self, y: Array, xp: Any) -> Array:
        return y >= 0.0

    def value(self, p: Array, y: Array, xp: Any) -> Array:
        return self.curvature(p, xp) * (1.0 + _positive(p - 40.0, xp)) - y * p

    def slope(self, p: Array, y: Array, xp: Any) -> Array:
        return self.curvature(p, xp) - y

    def curvature(self, p: Array, xp: Any) -> Array:
        """Second derivative."""
        return xp.exp(xp.minimum(p, xp.full_like(p, 40.0)))


PROXIMAL = {"squared": Squared(), "absolute": Absolute(), "hinge": Hinge(), "logistic": Logistic()}
SMOOTH = {"logistic": Logistic(), "poisson": Poisson()}


def model_loss(name: str, tube: float, losses: dict[str, ModelLoss]) -> ModelLoss:
    """Return the loss of a name; a tube is for the absolute loss."""
    loss = losses[check.option("loss", name, tuple(losses))]
    tube = check.scalar("tube", tube, low=0.0)
    if tube and name != "absolute":
        raise check.error("tube", tube, f"0 with the loss '{name}'", "use loss='absolute'")
    return Absolute(tube) if tube else loss


def bisect(excess: Any, most: Array, xp: Any) -> Array:
    """Return where ``excess``, a function that decreases along the way from 0 to ``most``, changes its sign.

    The sign at 0 is that of ``most``.
    """
    low, high = xp.zeros_like(most), most
    for _ in range(90):
        middle = 0.5 * (low + high)
        before = excess(middle) * xp.sign(most) > 0.0
        low, high = xp.where(before, middle, low), xp.where(before, high, middle)
    return high


def _positive(z: Array, xp: Any) -> Array:
    return xp.maximum(z, xp.zeros_like(z))
