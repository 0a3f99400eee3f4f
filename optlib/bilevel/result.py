"""What the bilevel solvers return."""

from optlib._core import Result


class BilevelResult(Result):
    """Result of a bilevel solver.

    All fields of `optlib.Result`, and those below. ``fun`` is the validation loss ``Phi(x)``.

    Attributes
    ----------
    y : array
        The inner solution at ``x``.
    hypergradient : array
        ``grad Phi(x)``.
    error_bound : float or None
        Bound of the error of the hypergradient, where the problem knows its constants.
    at_bounds : int
        Number of hyperparameters at the edge of their box, from which the loss still falls outwards.
    refit_fun : float or None
        The loss after training from the default start at ``x``, with ``refit=True``. Where it differs from ``fun``, the
        inner solution is not unique, and ``fun`` can only be had with this ``y``.
    refit_y : array or None
        The inner solution of that.
    """

    def summary(self) -> list[tuple[str, str]]:
        """Rows of the printed form: label and text."""
        rows = dict(super().summary())
        if self.at_bounds:
            rows["box"] = f"{self.at_bounds} hyperparameters at the edge of the box: widen `bounds`, or mean it"
        if self.error_bound is not None and self.error_bound < 0.1 * abs(self.fun):
            rows["hypergradient"] = f"error at most {self.error_bound:.1e}"
        if self.get("refit_fun") is not None:
            rows["refit"] = f"{self.refit_fun:.10g} after training from the start"
        return list(rows.items())
