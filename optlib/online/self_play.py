"""Self-play: two learners against each other solve a convex-concave game."""

from typing import Any, NamedTuple

from optlib._core import Result, prepare_resume
from optlib._core import validation as check
from optlib.backend import Array, supports
from optlib.online._problem import require
from optlib.online._saddle import mean, repeated, run_saddle
from optlib.online.learner import Learner
from optlib.online.problems import BilinearGame


class SelfPlayState(NamedTuple):
    """States of both learners, mean of the decisions, unit of the certificate, rounds played."""

    rows: Any
    columns: Any
    average: Array
    scale: float
    nit: int


@supports()
def self_play(
    problem: BilinearGame,
    rows: Learner,
    columns: Learner,
    *,
    init: Any = None,
    tol: float | None = 1e-2,
    maxiter: int = 10_000,
    check_every: int = 100,
    callback: Any = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    r"""Solve a game by letting two learners play it: their mean decisions are close to an equilibrium.

    Parameters
    ----------
    problem : BilinearGame
        The game. Both sets must be bounded, and be those of the learners.
    rows, columns : Learner
        Learners of x and of y that take gradients, such as ``AdaHedge(n)`` for the simplex; they start anew, and are
        afterwards in the states after the last round.
    init : Result or state, optional
        A result to continue.
    tol : float or None
        Tolerance of the duality gap relative to the largest payoff; None plays exactly ``maxiter`` rounds.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See the solver contract (`optlib._core.run`).

    Returns
    -------
    Result
        ``x`` is the pair of mean decisions, ``fun`` their payoff, ``regret_bound`` the sum of the proven bounds of both
        learners per round, which bounds the gap; the certificate is the gap itself.

    Notes
    -----
    The gap of the mean decisions is at most ``(regret of rows + regret of columns) / rounds``, because the payoff is
    linear in both.

    Stopping: the gap of the mean decisions, relative to its scale, is at most ``tol``.

    Cost: two products with the matrix and one round of each learner per iteration.

    When not to use it: to solve one game, `mirror_prox` and `optimistic_gradient` are faster; this is for games against
    the learner that you will deploy.

    References
    ----------
    .. [1] Y. Freund, R. E. Schapire, "Adaptive Game Playing Using Multiplicative Weights", Games and Economic
       Behavior 29 (1999).

    Examples
    --------
    >>> from optlib.online import AdaHedge, BilinearGame, self_play
    >>> res = self_play(BilinearGame([[3.0, 0.0], [1.0, 2.0]]), AdaHedge(2), AdaHedge(2))
    >>> res.success, bool(res.certificate.value <= res.regret_bound)
    (True, True)
    """
    require(problem, BilinearGame)
    n, m = problem.A.shape
    for name, learner, size in (("rows", rows, n), ("columns", columns, m)):
        if not isinstance(learner, Learner) or learner.kind != "gradient":
            raise check.error(name, type(learner).__name__, "a learner that takes gradients", kind=TypeError)
        if learner.n != size:
            raise check.error(name, f"a learner of {learner.n} coordinates", f"one of {size}")
    if rows is columns:
        raise check.error("columns", "the learner of the rows", "a learner of its own")
    if not problem._bounded:
        raise check.error("problem", "an unbounded set", "bounded sets", "use extragradient or halpern")
    xp, like = problem._xp, problem._like
    state = prepare_resume(init, SelfPlayState)
    if state is None:
        rows.start(like=like)
        columns.start(like=like)
        z = xp.concat([rows.decide(), columns.decide()])
        state = SelfPlayState(rows.state, columns.state, z, problem._start_scale(z), 0)

    def advance(s: SelfPlayState) -> SelfPlayState:
        rows.state, columns.state = s.rows, s.columns
        z = xp.concat([rows.decide(), columns.decide()])
        g = problem.operator(z)
        rows.update(g[:n])
        columns.update(g[n:])
        nit = s.nit + 1
        return SelfPlayState(rows.state, columns.state, mean(s.average, z, nit), s.scale, nit)

    def extras(s: SelfPlayState) -> dict[str, Any]:
        rows.state, columns.state = s.rows, s.columns
        return {"regret_bound": (rows.regret_bound() + columns.regret_bound()) / max(s.nit, 1)}

    return run_saddle(
        "self_play", problem, state, repeated(advance), lambda s: (s.average,), calls=lambda s: {"operator": s.nit},
        options=(repr(vars(rows).keys()), type(rows).__name__, type(columns).__name__), extras=extras, tol=tol,
        maxiter=maxiter, check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
        checkpoint=checkpoint,
    )  # fmt: skip
