"""Sliced transport: the mean of one-dimensional distances over random directions."""

from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, default_float, linalg, random, to_numpy
from optlib.transport.cost import as_points
from optlib.transport.one_dimensional import wasserstein_1d

BLOCK = 2**21  # projected numbers at a time


class SlicedEstimate(NamedTuple):
    """What `sliced` returns.

    Attributes
    ----------
    value : float
        Mean over the directions of the p-th powers of the Wasserstein distances of the projections.
    error : float
        Standard error of that mean: how far it is from that over all directions.
    distance : float
        ``value ** (1 / p)``, the sliced Wasserstein distance.
    maximum : float
        The largest distance ``W_p`` over the directions: a lower bound of the max-sliced distance.
    direction : array, shape (d,)
        The unit vector in which it was found.
    """

    value: float
    error: float
    distance: float
    maximum: float
    direction: Array


def sliced(
    x: Any, y: Any, a: Any = None, b: Any = None, *, p: float = 2.0, directions: int = 100, rng: Any = None
) -> SlicedEstimate:
    r"""Estimate the sliced Wasserstein distance of two clouds of points.

    It is the mean over unit vectors ``t`` of the cost ``W_p^p`` between the projections ``<x_i, t>`` and ``<y_j, t>``.

    Parameters
    ----------
    x, y : array or nested sequence, shapes (n, d) and (m, d), or (n,) and (m,)
        Points as rows.
    a, b : array or sequence, shapes (n,) and (m,), optional
        Weights >= 0 of the same total mass; None means uniform.
    p : float
        Exponent >= 1.
    directions : int
        Number of random directions, at least 2. The error falls like its inverse square root.
    rng : seed or Generator, optional
        Of the directions: the same ones for the same seed on every array library.

    Returns
    -------
    SlicedEstimate
        Estimate with its standard error, and the largest distance that was seen with its direction.

    Raises
    ------
    TypeError, ValueError
        For invalid input; see `wasserstein_1d`.

    See Also
    --------
    optlib.transport.wasserstein_1d : The distance on the line.
    optlib.transport.divergence : A smooth distance with gradients.

    Notes
    -----
    Cost: one sort per direction, O((n + m) (d + log(n + m))), in blocks of bounded memory. Not to be used for plans,
    nor to compare with `emd`: the value is at most that of the full distance, and about 1 / d of it for p = 2.

    References
    ----------
    N. Bonneel, J. Rabin, G. Peyré, H. Pfister, Sliced and Radon Wasserstein barycenters of measures, J. Math. Imaging
    Vis. 2015. I. Deshpande et al., Max-sliced Wasserstein distance and its use for GANs, CVPR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.transport import sliced
    >>> x = np.random.default_rng(0).normal(size=(200, 3))
    >>> found = sliced(x, x + [3.0, 0.0, 0.0], directions=1000, rng=0)
    >>> abs(found.value - 9.0 / 3.0) < 4.0 * found.error
    True
    >>> round(found.maximum, 1)
    3.0
    """
    xp, device, dtype = check.common(x=x, y=y, a=a, b=b)
    x = as_points("x", x, xp, dtype, device)
    y = as_points("y", y, xp, dtype, device, dimension=x.shape[1])
    count = check.scalar("directions", directions, low=2, integer=True)
    p = check.scalar("p", p, low=1.0)
    given = []
    for name, w, n in (("a", a, x.shape[0]), ("b", b, y.shape[0])):
        fix = "give one weight >= 0 per point"
        given.append(
            None if w is None else check.array(name, w, xp=xp, shape=(n,), dtype=dtype, device=device, fix=fix)
        )
    drawn = random.normal(random.as_generator(rng), (count, x.shape[1]), like=x)
    units = drawn / linalg.norm(drawn, axis=1, keepdims=True, xp=xp)
    step = max(1, BLOCK // (x.shape[0] + y.shape[0]))
    costs = []
    for i in range(0, count, step):
        block = units[i : min(i + step, count), :]
        costs.append(wasserstein_1d(block @ x.T, block @ y.T, *given, p=p))
    found = np.asarray(to_numpy(xp.astype(xp.concat(costs), default_float(xp, device))), dtype=np.float64)
    value, best = float(np.mean(found)), int(np.argmax(found))
    error = float(np.std(found, ddof=1)) / count**0.5
    return SlicedEstimate(value, error, value ** (1 / p), float(found[best]) ** (1 / p), units[best, :])
