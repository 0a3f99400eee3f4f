"""The one loop: limits, clock, history, callbacks, finiteness, stall, progress table and checkpoints.

A method is a generator of `Step` that reads like the paper; everything else about running it is here.
"""

import logging
import math
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from optlib._core import checkpoint as checkpoints
from optlib._core import validation
from optlib._core.result import MESSAGES, HaltError, History, Result, Status
from optlib.backend.namespace import Array, array_namespace, asarray_on, device_of, is_numpy, synchronize, to_numpy

Thunk = Callable[[], Any]
logger = logging.getLogger("optlib")

SAVE_EVERY = 5.0  # seconds between two checkpoints


@dataclass(slots=True)
class Step:
    """What a method yields: where it is, and how to measure that if the driver asks.

    Attributes
    ----------
    x : array or tuple of arrays
        The iterate; never changed after it was yielded.
    nit : int
        Iterations done since the very start (0 for the initial point).
    state : NamedTuple
        Arrays, Python numbers, strings, None and NamedTuples of these: enough to resume bitwise.
    stop : callable
        Returns the quantity of the stopping rule (0-d array or float); called at checks only.
    metrics : dict of callables
        More quantities for the history.
    status : Status, optional
        Set when the method itself ends the run. ``stop`` may set it on its own step: what only a check can tell, such
        as a breakdown on the device.
    counts : dict
        Calls of each oracle so far.
    """

    x: Any
    nit: int
    state: Any
    stop: Thunk
    metrics: Mapping[str, Thunk] = field(default_factory=dict)
    status: Status | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


Steps = Generator[Step, int, None]


class _Clock:
    """Seconds spent in the solver: paused while metrics and callbacks run."""

    def __init__(self, elapsed: float, xp: Any) -> None:
        self._xp = xp
        self._elapsed = elapsed
        self._start = time.perf_counter()

    def pause(self) -> float:
        synchronize(self._xp)
        self._elapsed += time.perf_counter() - self._start
        return self._elapsed

    def resume(self) -> None:
        self._start = time.perf_counter()


def prepare_init(init: Any, state_class: type) -> tuple[Any, Any]:
    """Sort out the argument ``init``: a starting point, or the state of an earlier run.

    Parameters
    ----------
    init : None, array, Result or NamedTuple
    state_class : type
        The state of this method.

    Returns
    -------
    start : array or None
        The starting point, if one was given.
    state : NamedTuple or None
        The state to resume from, if one was given.

    Raises
    ------
    TypeError
        If a result or state of another method was given.
    """
    state = init.state if isinstance(init, Result) else init
    if isinstance(state, state_class):
        return None, state
    if isinstance(init, Result) or (isinstance(init, tuple) and hasattr(init, "_fields")):
        expected = f"an array, or a result of the same method (state {state_class.__name__})"
        raise validation.error("init", f"the state {type(state).__name__} of another method", expected, kind=TypeError)
    return init, None


def prepare_resume(init: Any, state_class: type, fix: str = "") -> Any:
    """Sort out an ``init`` that may only be the state of an earlier run.

    Parameters
    ----------
    init : None, Result or NamedTuple
    state_class : type
        The state of this method.
    fix : str
        Where a start belongs, if there is one.

    Returns
    -------
    NamedTuple or None
        The state to resume from, if one was given.

    Raises
    ------
    TypeError
        If anything else was given.
    """
    start, state = prepare_init(init, state_class)
    if start is not None:
        raise validation.error("init", type(start).__name__, "a result of the same method", fix, TypeError)
    return state


def resume_state(saved: checkpoints.Saved, template: Any, like: Array) -> Any:
    """Rebuild a state of the type of ``template`` from a checkpoint, with the namespace and device of ``like``."""
    return checkpoints.unflatten(template, {name: _restore(value, like) for name, value in saved.fields.items()})


def _restore(value: Any, like: Array) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    xp = array_namespace(like)
    restored = asarray_on(value, xp=xp, dtype=getattr(xp, value.dtype.name), device=device_of(like))
    return restored[()] if is_numpy(xp) and value.ndim == 0 else restored  # NumPy computes with scalars


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # what is not finite ends the run, and is said
def run(
    steps: Callable[[Any], Steps],
    *,
    state: Any,
    like: Array,
    xp: Any,
    method: str,
    finish: Callable[[Step], dict[str, Any]],
    tol: float | None,
    maxiter: int,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
    problem: Any = None,
    patience: int | None = None,
    result_class: type[Result] = Result,
    message: str = "",
) -> Any:
    """Run a method.

    Parameters
    ----------
    steps : callable
        ``steps(state)`` returns the generator, started from that state. Between two yields the generator may do up to
        the number of iterations that the driver sends (``budget = yield Step(...)``): block methods run exactly
        ``min(budget, own limit)`` of them in one kernel call, others ignore it.
    state : NamedTuple
        Where to start (nit included, if it continues an earlier run).
    like : array
        An array of the problem: its namespace and device are used to rebuild a saved state.
    xp : module
        The namespace.
    method : str
        Name of the method.
    finish : callable
        ``finish(step)`` is called once after the loop; returns ``certificate`` and the fields of the result. Instead of
        the certificate it may return ``later``, a function that computes it and other fields, if it is proven to hold.
    tol : float or None
        Stop when the stopping quantity is at most ``tol``; None runs exactly ``maxiter`` iterations.
    maxiter : int
        Iterations of this call, those before a resume not counted.
    check_every : int
        Iterations between two checks; in between nothing is transferred to the host.
    callback : callable, optional
        ``callback(intermediate_result)`` at every check; `StopIteration` ends the run.
    record : bool or "iterates"
        Whether to keep the history, and copies of the iterates in ``history_x``.
    max_time : float, optional
        Seconds.
    disp : {0, 1, 2}
        Silent, one line at the end, a table.
    checkpoint : path, optional
        File to save the state to, and to continue from if it exists.
    problem : object or callable
        What identifies the problem and the options (see `fingerprint`); or a function that returns it, which is called
        if there is a checkpoint.
    patience : int, optional
        Checks without 1 % improvement of the best stopping quantity after which the run counts as stalled.
    result_class : type
    message : str
        Put before the words of the status: which method was chosen and why.

    Returns
    -------
    Result
    """
    maxiter = validation.scalar("maxiter", maxiter, low=0, integer=True)
    check_every = validation.scalar("check_every", check_every, low=1, integer=True)
    if tol is not None:
        tol = validation.scalar("tol", tol, low=0.0)
    if max_time is not None:
        max_time = validation.scalar("max_time", max_time, low=0.0, finite=False)
    validation.option("record", record, (True, False, "iterates"))
    validation.option("disp", disp, (0, 1, 2, False, True))
    if callback is not None and not callable(callback):
        raise validation.error("callback", type(callback).__name__, "a function of one result", kind=TypeError)

    history, elapsed, mark, start = History(), 0.0, "", None
    if checkpoint is not None:
        checkpoints.check_path(checkpoint)
        mark = checkpoints.fingerprint((method, problem() if callable(problem) else problem))
        if (saved := checkpoints.load(checkpoint, mark)) is not None:
            state = resume_state(saved, state, like)
            history, elapsed = History(saved.record["history"]), saved.record["time"]
            start = saved.record["start"]

    clock = _Clock(elapsed, xp)
    generator = steps(state)
    step = next(generator)
    start = step.nit if start is None else start  # iterations before this call
    iterates: list[Any] = []
    best, best_check, checks, saved_at, finite = math.inf, 0, 0, time.perf_counter(), step
    table = _Table(disp, method)
    stop = math.nan

    def intermediate(now: Step) -> Result:
        return result_class(
            x=_copy(now.x, xp), nit=now.nit, method=method, status=None, message="running", success=False, tol=tol,
            maxiter=start + maxiter, counts=dict(now.counts), certificate=None, history=history, time=elapsed,
            state=now.state, fun=None,
        )  # fmt: skip

    def save(now: Step) -> None:
        record_ = {"history": dict(history), "time": elapsed, "start": start}
        checkpoints.save(checkpoint, now.state, record_, mark)

    status: Status | None = None
    halt: HaltError | None = None
    try:
        while True:
            done = step.nit - start
            if step.status is not None or done >= maxiter or done % check_every == 0 or checks == 0:
                elapsed = clock.pause()
                values = _measure(step, xp)
                stop = values["stop"]
                checks += 1
                repeated = bool(len(history)) and history["nit"][-1] == step.nit  # the point that a resume starts from
                if record and not repeated:
                    history.append(nit=step.nit, time=elapsed, **values)
                if record == "iterates":
                    iterates.append(_copy(step.x, xp))
                table.row(step.nit, elapsed, values)
                status = _verdict(step, values, tol, done, maxiter, elapsed, max_time)
                if status is not Status.NONFINITE:
                    finite = step
                else:
                    halt = HaltError(MESSAGES[status], status, x=step.x)
                if stop < 0.99 * best:
                    best, best_check = stop, checks
                if status is None and patience is not None and checks - best_check >= patience:
                    status = Status.STALLED
                if callback is not None and status is not Status.NONFINITE:
                    if not record:
                        history = History(
                            {k: [float(v)] for k, v in {"nit": step.nit, "time": elapsed, **values}.items()}
                        )
                    try:
                        callback(intermediate(step))
                    except StopIteration:
                        status = Status.CALLBACK if status is None else status
                if checkpoint is not None and status is None and time.perf_counter() - saved_at > SAVE_EVERY:
                    save(step)
                    saved_at = time.perf_counter()
                if status is not None:
                    break
                clock.resume()
            budget = min(check_every - done % check_every, maxiter - done)
            try:
                step = generator.send(budget)
            except HaltError as stopped:
                halt, status, elapsed = stopped, stopped.status, clock.pause()
                break
    except KeyboardInterrupt:
        if checkpoint is not None:
            save(finite)
        raise
    finally:
        generator.close()
        if callback is not None and hasattr(callback, "close"):
            callback.close()
    if checkpoint is not None:
        save(finite)

    clock.resume()
    fields = finish(finite)
    elapsed = clock.pause()
    later = fields.pop("later", None)
    holds = later is not None or fields["certificate"].holds
    words = MESSAGES[status]
    if status is Status.CONVERGED and not holds:
        words = f"the stopping rule was met but the certificate fails ({fields['certificate']})"
        status = Status.STALLED
    if halt is not None and str(halt) != words:
        words += f": {halt}"
    text = f"{message}; {words}" if message else words
    result = result_class(
        {
            "x": finite.x, "success": holds, "status": status, "message": text, "method": method, "nit": finite.nit,
            "counts": dict(finite.counts), "history": history, "time": elapsed, "state": finite.state, **fields,
        }
    )  # fmt: skip
    if halt is not None:
        result["failed_at"] = halt.point
    if later is None:
        result.setdefault("fun", None)
    else:
        result.defer(later)
    if record == "iterates":
        result["iterates"] = iterates
    table.end(result)
    logger.debug("%s", result)
    return result


def settle(steps: Steps, *, tol: float, maxiter: int) -> Step:
    """Run a method inside another one, without clock, history, checks and result.

    Parameters
    ----------
    steps : generator
    tol : float
        Ends when the stopping quantity is at most this, or not a number.
    maxiter : int

    Returns
    -------
    Step
        The last one.
    """
    step = next(steps)
    start = step.nit
    while step.status is None and step.nit - start < maxiter and float(step.stop()) > tol:
        step = steps.send(1)
    steps.close()
    return step


def _measure(step: Step, xp: Any) -> dict[str, float]:
    """Evaluate all thunks of a step: one stacked transfer to the host."""
    values = {"stop": step.stop(), **{name: thunk() for name, thunk in step.metrics.items()}}
    device = {name: v for name, v in values.items() if not isinstance(v, (int, float))}
    if device:
        dtype = xp.result_type(*device.values()) if len(device) > 1 else next(iter(device.values())).dtype
        host = to_numpy(xp.stack([xp.astype(v, dtype) for v in device.values()]))
        values.update(zip(device, host.tolist(), strict=True))
    return {name: float(v) for name, v in values.items()}


def _verdict(
    step: Step,
    values: Mapping[str, float],
    tol: float | None,
    done: int,
    maxiter: int,
    elapsed: float,
    limit: float | None,
) -> Status | None:
    if not all(math.isfinite(v) for v in values.values()):
        return Status.NONFINITE
    if step.status is not None:
        return step.status
    if tol is not None and values["stop"] <= tol:
        return Status.CONVERGED
    if done >= maxiter:
        return Status.MAXITER
    if limit is not None and elapsed >= limit:
        return Status.MAX_TIME
    return None


def _copy(x: Any, xp: Any) -> Any:
    if isinstance(x, tuple):
        return tuple(_copy(part, xp) for part in x)
    return xp.asarray(x, copy=True)


class _Table:
    """The printed table of ``disp``: one line at the end (1), a line per check (2)."""

    def __init__(self, disp: int, method: str) -> None:
        self._disp = disp
        self._method = method
        self._head = False

    def row(self, nit: int, elapsed: float, values: Mapping[str, float]) -> None:
        if self._disp < 2:
            return
        if not self._head:
            self._head = True
            sys.stdout.write(f"{self._method}\n" + "".join(f"{n:>14}" for n in ("nit", "time", *values)) + "\n")
        sys.stdout.write(f"{nit:14d}{elapsed:14.3f}" + "".join(f"{v:14.4e}" for v in values.values()) + "\n")

    def end(self, result: Result) -> None:
        if self._disp:
            text = (
                f"{self._method}: {result.message}; {result.nit} iterations, {result.time:.3g} s, {result.certificate}"
            )
            sys.stdout.write(text + "\n")
