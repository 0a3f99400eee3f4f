"""Random measuring matrices that are generated again whenever they are needed: nothing is stored."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, kernel, random
from optlib.backend.philox import philox_normal, philox_rademacher
from optlib.sensing.operators import SensingOperator, _check_sizes

BLOCK_BYTES = 2**25  # of the measuring matrices that portable code generates at a time
STREAMS = {"gaussian": philox_normal, "rademacher": philox_rademacher}


class RegeneratedSensing(SensingOperator):
    """Gaussian or Rademacher measuring matrices of variance 1/m, generated again in every pass.

    Entry (j, k) of ``A_i`` is the number at the position ``i n1 n2 + j n2 + k`` of a counter-based stream
    (`optlib.backend.philox`): the same on every backend, and under any split of the measurements.

    Parameters
    ----------
    matrix_shape : tuple of int
        Rows and columns (n1, n2).
    m : int
        Number of measurements.
    distribution : {"gaussian", "rademacher"}
        Normal entries, or random signs, which are about ten times cheaper and as good for recovery.
    rng : seed or Generator, optional
        Chooses the stream.
    like : array, optional
        Library, device and dtype; NumPy float64 by default.

    Attributes
    ----------
    key : int
        The stream.

    Notes
    -----
    Cost: m n1 n2 random numbers a pass, and 2k multiplications each for factors with k columns. On NumPy memory is some
    rows of a measuring matrix (a whole one of up to 65 536 entries, and then two multiplications are enough) and
    O((n1 + n2) k); the residual and both derivatives come out of one pass. Elsewhere,
    blocks of at most 32 MiB (or one measuring matrix) are generated.

    Examples
    --------
    >>> from optlib.sensing import RegeneratedSensing
    >>> A = RegeneratedSensing((1000, 1000), 20_000, rng=0)  # would take 160 GB
    >>> A.split(4)[3]
    RegeneratedSensing(1000 x 1000, 5000 measurements, float64)
    """

    def __init__(
        self,
        matrix_shape: tuple[int, int],
        m: int,
        distribution: str = "gaussian",
        *,
        rng: Any = None,
        like: Array | None = None,
    ) -> None:
        n1, n2 = _check_sizes(matrix_shape, m)
        check.option("distribution", distribution, tuple(STREAMS))
        if m * n1 * n2 >= 2**62:
            raise check.error("m", m, "at most 2^62 entries of all measuring matrices")
        key = int(random.as_generator(rng).integers(2**63))
        self._set((n1, n2), 0, m, distribution, key, 1.0 / math.sqrt(m), check.template("like", like))

    def _set(
        self,
        matrix_shape: tuple[int, int],
        first: int,
        m: int,
        distribution: str,
        key: int,
        scale: float,
        like: Array,
    ) -> "RegeneratedSensing":
        super().__init__(matrix_shape, m, like)
        self.distribution, self.key, self._first, self._scale = distribution, key, first, scale
        self._like = like[:0] if like.ndim else self.xp.empty(0, dtype=like.dtype, device=like.device)
        return self

    def _blocks(self) -> Iterator[tuple[int, int, Array]]:
        """Measuring matrices i0 to i1, unscaled, as rows."""
        size = self.shape[1]
        step = max(1, BLOCK_BYTES // (size * self.xp.finfo(self.dtype).bits // 8))
        for i in range(0, self.shape[0], step):
            stop, start = min(i + step, self.shape[0]), (self._first + i) * size
            entries = STREAMS[self.distribution](self.key, start, (stop - i) * size, self._like, xp=self.xp)
            yield i, stop, self.xp.reshape(entries, (stop - i, size))

    def _forward(self, X: Array) -> Array:
        x = self._scale * self.xp.reshape(X, (-1,))
        return self.xp.concat([A @ x for _, _, A in self._blocks()])

    def _adjoint(self, z: Array) -> Array:
        image = self.xp.zeros(self.shape[1], dtype=self.dtype, device=self.device)
        for i, j, A in self._blocks():
            image = image + z[i:j] @ A
        return self.xp.reshape(self._scale * image, self.matrix_shape)

    def _forward_factored(self, F: Array, G: Array) -> Array:
        return self._pass(F, G, None, 0)[0]

    def _adjoint_matmul(self, z: Array, G: Array) -> Array:
        none = self.xp.zeros((self.matrix_shape[0], 0), dtype=self.dtype, device=self.device)
        return self._pass(none, G, z, 1)[1]

    def _adjoint_rmatmul(self, z: Array, F: Array) -> Array:
        none = self.xp.zeros((self.matrix_shape[1], 0), dtype=self.dtype, device=self.device)
        return self._pass(F, none, z, 1)[2]

    def _gradient(self, F: Array, G: Array, y: Array) -> tuple[Array, Array, Array]:
        return self._pass(F, G, y, 2)

    def _pass(self, F: Array, G: Array, z: Array | None, task: int) -> tuple[Array, Array, Array]:
        z = self.xp.zeros(self.shape[0], dtype=self.dtype, device=self.device) if z is None else z
        return regenerated_pass(self.key, self._first, self.distribution, self._scale, F, G, z, task, xp=self.xp)

    def _isotropy(self) -> float:
        return self._scale**2 * self.shape[0]

    def _part(self, i0: int, i1: int) -> "RegeneratedSensing":
        made = RegeneratedSensing.__new__(RegeneratedSensing)
        return made._set(
            self.matrix_shape, self._first + i0, i1 - i0, self.distribution, self.key, self._scale, self._like
        )

    def _map_arrays(self, move: Callable[[Array], Array]) -> "RegeneratedSensing":
        made = RegeneratedSensing.__new__(RegeneratedSensing)
        return made._set(
            self.matrix_shape, self._first, self.shape[0], self.distribution, self.key, self._scale, move(self._like)
        )


@kernel(numba="optlib.sensing._regenerated_numba:regenerated_pass", match="sum")
def regenerated_pass(
    key: int, first: int, distribution: str, scale: float, F: Array, G: Array, z: Array, task: int, *, xp: Any
) -> tuple[Array, Array, Array]:
    """Products of regenerated measuring matrices ``A_i`` with factors, in one pass.

    Parameters
    ----------
    key, first : int
        The stream, and the first measurement in it.
    distribution : {"gaussian", "rademacher"}
    scale : float
        Factor of all matrices.
    F, G : array, shapes (n1, k) and (n2, l)
        ``k = l`` except for task 1.
    z : array, shape (m,)
    task : {0, 1, 2}
        0: ``w = A(F G')`` only; 1: ``w = z``, and sums with these weights; 2: ``w = A(F G') - z``, and sums.
    xp : module

    Returns
    -------
    w : array, shape (m,)
    right : array, shape (n1, l)
        ``sum_i w_i A_i G`` (zeros for task 0).
    left : array, shape (n2, k)
        ``sum_i w_i A_i' F`` (zeros for task 0).
    """
    (n1, _k), (n2, _l) = F.shape, G.shape
    size = n1 * n2
    step = max(1, BLOCK_BYTES // (size * xp.finfo(F.dtype).bits // 8))
    weights, image = [], xp.zeros((n1, n2), dtype=F.dtype, device=F.device)
    X = xp.reshape(F @ G.T, (-1,)) if task != 1 else None
    for i in range(0, z.shape[0], step):
        part = z[i : min(i + step, z.shape[0])]
        count = part.shape[0]
        entries = STREAMS[distribution](key, (first + i) * size, count * size, F, xp=xp)
        A = xp.reshape(entries, (count, size)) * scale
        w = part if task == 1 else A @ X - part if task == 2 else A @ X
        weights.append(w)
        if task:
            image = image + xp.reshape(w @ A, (n1, n2))
    return xp.concat(weights), image @ G, image.T @ F
