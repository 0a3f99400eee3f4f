"""What a learner is compared with in hindsight: a fixed decision, the best one, the best that switches, a path."""

from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, device_of, kernel
from optlib.geometry import Domain


@kernel(numba="optlib.online._comparators_numba:switching_rounds", match="sum")
def switching_rounds(block: Array, table: Array, *, xp: Any) -> Array:
    """Continue the dynamic program of the best sequence of experts with few switches.

    Parameters
    ----------
    block : array, shape (rounds, learners, n)
        Losses.
    table : array, shape (learners, switches + 1, n)
        Least losses so far with at most that many switches that end at that expert.
    xp : module
        Namespace.

    Returns
    -------
    array, shape (learners, switches + 1, n)
        The table after the rounds.
    """
    for t in range(block.shape[0]):
        best = xp.min(table[:, :-1, :], axis=-1, keepdims=True)
        table = xp.concat([table[:, :1, :], xp.minimum(table[:, 1:, :], best)], axis=1)
        table = table + block[t, ...][:, None, :]
    return table


class Switching:
    """The best sequence of experts (or arms, or vertices of a simplex) with at most so many switches.

    Parameters
    ----------
    switches : int
        Number of switches allowed.

    Notes
    -----
    Exact, by dynamic programming: O(switches n) per round in time and in memory.

    Examples
    --------
    >>> from optlib.online import Switching, best_switching
    >>> best_switching([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], 1)
    0.0
    """

    def __init__(self, switches: int) -> None:
        self.switches = check.scalar("switches", switches, low=0, integer=True)

    def __repr__(self) -> str:
        return f"Switching({self.switches})"


def best_fixed(losses: Any, domain: Domain) -> tuple[Array, float]:
    """Return the best fixed point of a domain in hindsight, for linear losses, and its cumulative loss.

    Parameters
    ----------
    losses : array, shape (rounds, n)
        Losses of the coordinates.
    domain : Domain
        The set, bounded.

    Returns
    -------
    x : array, shape (n,)
        The best point.
    value : float
        Its cumulative loss.

    Examples
    --------
    >>> from optlib.geometry import Simplex
    >>> from optlib.online import best_fixed
    >>> best_fixed([[1.0, 0.0], [1.0, 0.5]], Simplex(2))
    (array([0., 1.]), 0.5)
    """
    if not isinstance(domain, Domain):
        raise check.error("domain", type(domain).__name__, "a domain, for instance Simplex(3)", kind=TypeError)
    xp = check.common(losses=losses)[0]
    losses = check.array("losses", losses, xp=xp, shape=(None, domain.shape[0]))
    total = xp.sum(losses, axis=0)
    x = domain.linear_minimizer(total)
    return x, float(xp.sum(total * x))


def best_switching(losses: Any, switches: int) -> float:
    """Return the cumulative loss of the best sequence of experts with at most so many switches.

    Parameters
    ----------
    losses : array, shape (rounds, n)
        Losses of the experts.
    switches : int
        Number of switches allowed.

    Returns
    -------
    float
        The least cumulative loss.
    """
    xp = check.common(losses=losses)[0]
    losses = check.array("losses", losses, xp=xp, ndim=2)
    comparator = Switching(switches)
    table = xp.zeros((1, comparator.switches + 1, losses.shape[1]), dtype=losses.dtype, device=device_of(losses))
    return float(xp.min(switching_rounds(losses[:, None, :], table, xp=xp)))
