"""Online learning with memory, and with constraints that are revealed round by round."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, linalg
from optlib.geometry import Domain
from optlib.online.domains import require_bounded, vector_domain
from optlib.online.feedback import Feedback
from optlib.online.learner import Learner, column


class ConstrainedState(NamedTuple):
    """Points, sums of violations: positive parts, signed; ``sum |grad L|^2``, ``sum |x_t - x_{t-1}|``, rounds."""

    x: Array
    hard: Array
    signed: Array
    squares: Array
    movement: Array
    rounds: int


class ConstrainedOGD(Learner):
    r"""Online gradient descent under constraints :math:`g_t(x) \le 0` that are only known after the decision.

    Violations are summed up, and their price rises with the sum; losses and constraints may have memory.

    Parameters
    ----------
    domain : Domain
        The bounded set of all decisions.
    rounds : int
        Number of rounds T.
    memory : int
        Number m of earlier decisions that the loss of a round depends on; tell the gradient of the loss as if all of
        them were the last decision.
    lipschitz : float
        Lipschitz constant of a loss in each of those decisions, needed for the bound with memory.

    Notes
    -----
    Descent with the steps :math:`D / \sqrt{2 \sum |\nabla L_s|^2}` on :math:`L_t = f_t + \Phi'(V_t) g_t^+` with
    :math:`V_t = \sum_{s \le t} g_s^+(x_s)` and :math:`\Phi(V) = V^2 / \sqrt T`.

    Regret bound, against decisions that satisfy all constraints: :math:`\sqrt2 D \sqrt{\sum_t |\nabla L_t|^2} -
    \Phi(V_T) + \lambda \frac{m (m+1)}2 \sum_t |x_t - x_{t-1}|` with everything as it was.

    Tell it ``Feedback(gradient=..., constraint=g, constraint_gradient=...)``; leave out the last two if there is no
    constraint in the round. Of several constraints tell the largest. `violation` is the sum of the positive parts:
    those of one round do not make up for those of another. `violation_signed` lets them.

    Cost: O(n) and a projection per round.

    References
    ----------
    .. [1] A. Sinha, R. Vaze, "Optimal Algorithms for Online Convex Optimization with Adversarial Constraints",
       NeurIPS 2024.
    .. [2] X. Liu, Z. Yang, L. Ying, "Online Nonstochastic Control with Adversarial and Static Constraints",
       arXiv:2302.02426.

    Examples
    --------
    >>> from optlib.geometry import Ball
    >>> from optlib.online import ConstrainedOGD, Feedback
    >>> learner = ConstrainedOGD(Ball(2), rounds=1000)
    >>> for _ in range(1000):
    ...     x = learner.decide()  # minimise -x_1 subject to x_1 <= 0.5
    ...     learner.update(Feedback(gradient=[-1.0, 0.0], constraint=x[0] - 0.5, constraint_gradient=[1.0, 0.0]))
    >>> bool(learner.violation() < 60.0), bool(abs(learner.decide()[0] - 0.5) < 0.1)
    (True, True)
    """

    kind = "constraint"

    def __init__(self, domain: Domain, *, rounds: int, memory: int = 0, lipschitz: float = 0.0) -> None:
        self.domain = vector_domain(domain)
        super().__init__(domain.shape[0])
        self.horizon = check.scalar("rounds", rounds, low=1, integer=True)
        self.memory = check.scalar("memory", memory, low=0, integer=True)
        self.lipschitz = check.scalar("lipschitz", lipschitz, low=0.0)
        require_bounded(domain.diameter, "give a bounded set")
        self._diameter = domain.diameter

    def violation(self) -> Any:
        """Return the sum of the positive parts of the constraints so far (hard violation).

        Returns
        -------
        float, or array of shape (learners,)
            On the host.
        """
        return self._shown("hard")

    def violation_signed(self) -> Any:
        """Return the sum of the constraints so far, in which slack makes up for violation.

        Returns
        -------
        float, or array of shape (learners,)
            On the host.
        """
        return self._shown("signed")

    def _shown(self, field: str) -> Any:
        if self._state is None:
            self.start()
        values = column(getattr(self._state, field))
        return values if self._batch else float(values[0])

    def _initial(self, zeros: Array, xp: Any) -> ConstrainedState:
        zero = zeros[:, 0]
        return ConstrainedState(zeros + self._domain.center(zeros), zero, zero, zero, zero, 0)

    def _read(self, feedback: Any) -> Array:
        """Return a block of one round: gradient, constraint, gradient of the constraint."""
        gradient = super()._read(feedback)
        xp, shape = self._xp, self._shape
        value, slope = xp.zeros_like(gradient[..., :1]), xp.zeros_like(gradient)
        if isinstance(feedback, Feedback) and feedback.constraint is not None:
            if feedback.constraint_gradient is None:
                raise self._error("no gradient of the constraint", "`constraint_gradient`", kind=TypeError)
            value = xp.reshape(self._convert(feedback.constraint, shape[:-1]), value.shape)
            slope = xp.reshape(self._convert(feedback.constraint_gradient, shape), slope.shape)
        return xp.concat([gradient, value, slope], axis=-1)

    def _advance(self, state: ConstrainedState, block: Array, xp: Any) -> tuple[ConstrainedState, Array]:
        n, incurred = self.n, []
        for t in range(block.shape[0]):
            g = block[t, :, :n]
            incurred.append(xp.sum(g * state.x, axis=-1))
            if block.shape[2] > n:
                state = self._step(state, g, block[t, :, n], block[t, :, n + 1 :], xp)
            else:
                state = self._step(state, g, xp.zeros_like(g[:, 0]), xp.zeros_like(g), xp)
        return state, xp.stack(incurred)

    def _step(self, state: ConstrainedState, g: Array, value: Array, slope: Array, xp: Any) -> ConstrainedState:
        excess = xp.maximum(value, xp.zeros_like(value))
        hard = state.hard + excess
        price = xp.where(excess > 0.0, 2.0 * hard / math.sqrt(self.horizon), xp.zeros_like(hard))
        total = g + price[:, None] * slope
        squares = state.squares + xp.sum(xp.square(total), axis=-1)
        eta = self._diameter / xp.sqrt(2.0 * xp.where(squares > 0.0, squares, xp.ones_like(squares)))
        x = self._domain.project(state.x - eta[:, None] * total, xp=xp)
        movement = state.movement + linalg.norm(x - state.x, axis=-1, xp=xp)
        return ConstrainedState(x, hard, state.signed + value, squares, movement, state.rounds + 1)

    def _bound(self, state: ConstrainedState, comparator: np.ndarray | None) -> Any:
        hard = column(state.hard)
        steps = math.sqrt(2.0) * self._diameter * np.sqrt(column(state.squares)) - hard**2 / math.sqrt(self.horizon)
        return steps + 0.5 * self.lipschitz * self.memory * (self.memory + 1) * column(state.movement)
