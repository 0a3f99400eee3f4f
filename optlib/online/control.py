"""Control of a linear system by online learning: a policy that acts on the last disturbances."""

from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, to_numpy
from optlib.geometry import Ball
from optlib.online.constrained import ConstrainedOGD
from optlib.online.feedback import Feedback


class ControlState(NamedTuple):
    """State of the system, the last disturbances (newest first), sum of the costs, state of the learner, rounds."""

    x: Array
    noise: Array
    cost: float
    learner: Any
    rounds: int


class DisturbanceActionController:
    r"""Disturbance-action control of :math:`x_{t+1} = A x_t + B u_t + w_t` for quadratic costs and state constraints.

    The control is :math:`u_t = -K x_t + \sum_{i=1}^H M_i w_{t-i}`; the matrices M are learned by `ConstrainedOGD`,
    while the system runs and whatever the disturbances w are.

    Parameters
    ----------
    a : array, shape (n, n)
        Matrix of the system.
    b : array, shape (n, m)
        Effect of the control.
    gain : array, shape (m, n)
        A gain K that stabilises: the spectral radius of ``a - b @ gain`` is below 1.
    q : array, shape (n, n)
        Cost ``x' q x`` of a state.
    r : array, shape (m, m)
        Cost ``u' r u`` of a control.
    rounds : int
        Number of rounds.
    memory : int
        Number H of disturbances that the control looks at.
    radius : float
        Bound on the Euclidean norm of all M together. It sets the size of the first steps, so it should not be much
        larger than needed.
    limits : tuple of arrays, shapes (k, n) and (k,), optional
        State constraints ``c @ x <= d``.

    Notes
    -----
    Each round makes one gradient step on the cost that the policy would have at the state to which it would have led
    from 0 over the last H rounds; with constraints, the largest of them at that state is what the learner is told.
    `regret_bound` is for these costs, against the best fixed M that keeps the constraints; true costs differ by terms
    that decay with H geometrically, and by the movement of M.

    Cost: O(H^2 n m) per round.

    References
    ----------
    .. [1] N. Agarwal, B. Bullins, E. Hazan, S. Kakade, K. Singh, "Online Control with Adversarial Disturbances",
       ICML 2019, arXiv:1902.08721.
    .. [2] X. Liu, Z. Yang, L. Ying, "Online Nonstochastic Control with Adversarial and Static Constraints",
       arXiv:2302.02426.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.online import DisturbanceActionController
    >>> one = np.eye(1)
    >>> control = DisturbanceActionController(one, one, 0.6 * one, one, one, rounds=200, memory=2)
    >>> x = np.zeros(1)
    >>> for t in range(200):
    ...     x = x + control.decide() + 0.1 * np.cos(0.3 * t)
    ...     control.update(x)
    >>> control.rounds, bool(control.cost < 5.0)
    (200, True)
    """

    def __init__(
        self,
        a: Any,
        b: Any,
        gain: Any,
        q: Any,
        r: Any,
        *,
        rounds: int,
        memory: int = 8,
        radius: float = 1.0,
        limits: tuple[Any, Any] | None = None,
    ) -> None:
        xp, device, dtype = check.common(a=a, b=b, gain=gain, q=q, r=r)
        options = {"xp": xp, "dtype": dtype, "device": device}
        self.a = check.array("a", a, ndim=2, **options)
        n = int(self.a.shape[0])
        self.b = check.array("b", b, shape=(n, None), **options)
        m = int(self.b.shape[1])
        self.a = check.array("a", a, shape=(n, n), **options)
        self.gain = check.array("gain", gain, shape=(m, n), **options)
        self.q = check.array("q", q, shape=(n, n), **options)
        self.r = check.array("r", r, shape=(m, m), **options)
        self.limits = None
        if limits is not None:
            if not (isinstance(limits, (tuple, list)) and len(limits) == 2):
                raise check.error("limits", type(limits).__name__, "a pair: matrix and bounds", kind=TypeError)
            bound = check.array("limits", limits[1], ndim=1, **options)
            self.limits = (check.array("limits", limits[0], shape=(int(bound.shape[0]), n), **options), bound)
        self._closed = self.a - self.b @ self.gain
        radius_of_loop = float(np.max(np.abs(np.linalg.eigvals(to_numpy(self._closed)))))
        if not radius_of_loop < 1.0:
            got = f"one with spectral radius {radius_of_loop:g} of a - b @ gain"
            raise check.error("gain", got, "a gain that stabilises: below 1", "take that of the linear regulator")
        self.memory = check.scalar("memory", memory, low=1, integer=True)
        self._shape = (self.memory, m, n)
        self.learner = ConstrainedOGD(Ball(self.memory * m * n, radius), rounds=rounds)
        self._xp, self._device, self._dtype = xp, device, dtype
        self.learner.start(like=self.a)
        zeros = xp.zeros((2 * self.memory + 1, n), dtype=self._dtype, device=device)
        self._state = ControlState(zeros[0, :], zeros[1:, :], 0.0, self.learner.state, 0)

    @property
    def state(self) -> ControlState:
        """The state before the coming round; assign a saved one to continue from there."""
        return self._state

    @state.setter
    def state(self, state: ControlState) -> None:
        self._state = state
        self.learner.state = state.learner

    @property
    def rounds(self) -> int:
        """Number of rounds played."""
        return self._state.rounds

    @property
    def cost(self) -> float:
        """Sum of the costs of the states and controls so far."""
        return self._state.cost

    def regret_bound(self) -> float:
        """Return the proven bound on the regret of the matrices M, for the costs that they are learned from.

        Returns
        -------
        float
            The bound.
        """
        return self.learner.regret_bound()

    def decide(self) -> Array:
        """Return the control of the coming round.

        Returns
        -------
        array, shape (m,)
            The control.
        """
        return self._act(self._matrices(), self._state.noise, 0) - self.gain @ self._state.x

    def update(self, x: Any) -> None:
        """Tell the state that the system went to.

        Parameters
        ----------
        x : array, shape (n,)
            The new state.

        Raises
        ------
        ValueError, TypeError
            If it is not finite or has the wrong size; the message has the number of the round, and the controller is
            as it was before.
        """
        xp, state = self._xp, self._state
        name = f"x` of round `{self.rounds + 1}"
        x = check.array(name, x, xp=xp, shape=tuple(state.x.shape), dtype=self._dtype, device=self._device)
        u = self.decide()
        cost = float(state.x @ (self.q @ state.x) + u @ (self.r @ u))
        noise = x - self.a @ state.x - self.b @ u
        self.learner.update(self._feedback())
        recent = xp.concat([noise[None, :], state.noise[:-1, :]], axis=0)
        self._state = ControlState(x, recent, state.cost + cost, self.learner.state, state.rounds + 1)

    def _matrices(self) -> Array:
        return self._xp.reshape(self._xp.astype(self.learner.decide(), self._dtype), self._shape)

    def _act(self, matrices: Array, noise: Array, age: int) -> Array:
        """What the policy adds to the control, ``age`` rounds ago."""
        window = noise[age : age + self.memory, :]
        return self._xp.sum((matrices @ window[:, :, None])[..., 0], axis=0)

    def _feedback(self) -> Feedback:
        """Gradients at the state that the policy would have reached from 0 in as many rounds as it remembers."""
        xp, noise, matrices = self._xp, self._state.noise, self._matrices()
        y = xp.zeros_like(self._state.x)
        for age in range(self.memory - 1, -1, -1):
            y = self._closed @ y + self.b @ self._act(matrices, noise, age + 1) + noise[age, :]
        v = self._act(matrices, noise, 0) - self.gain @ y
        push = 2.0 * (self.r @ v)
        slope = 2.0 * (self.q @ y) - xp.matrix_transpose(self.gain) @ push
        gradient = self._pull(slope, push)
        if self.limits is None:
            return Feedback(gradient=gradient)
        excess = self.limits[0] @ y - self.limits[1]
        worst = xp.argmax(excess)
        row = xp.take(self.limits[0], xp.reshape(worst, (1,)), axis=0)[0, :]
        return Feedback(
            gradient=gradient, constraint=xp.max(excess), constraint_gradient=self._pull(row, xp.zeros_like(push))
        )

    def _pull(self, slope: Array, push: Array) -> Array:
        """Gradient with respect to the matrices, from those with respect to that state and its control."""
        xp, noise = self._xp, self._state.noise
        total = push[None, :, None] * noise[: self.memory, None, :]
        for age in range(self.memory):
            window = noise[age + 1 : age + 1 + self.memory, :]
            total = total + (xp.matrix_transpose(self.b) @ slope)[None, :, None] * window[:, None, :]
            slope = xp.matrix_transpose(self._closed) @ slope
        return xp.reshape(total, (-1,))
