"""What the transport solvers return."""

from optlib._core import Result


class TransportResult(Result):
    """Result of a transport solver.

    All fields of `optlib.Result`, and those below. The value, its bounds and the certificate cost passes over the data:
    where it is proven already that the certificate holds, they are computed when the first of them is asked for. Do not
    change the cost in place before that.

    Attributes
    ----------
    plan : Plan
        The transport plan, lazy: ``plan @ v``, ``plan.T @ u``, ``plan[i0:i1]``, ``plan.barycentric(y)``,
        ``plan.toarray()``; ``plan.rounded()`` has exact marginals.
    potentials : (array, array)
        Dual variables ``f`` (n,) and ``g`` (m,), also as ``x``. If both marginals are constraints they are determined
        up to ``(f + t, g - t)`` and given with ``<f, a> = <g, b>``. They are the derivatives of the optimal value in
        ``a`` and ``b`` (along directions that keep the masses equal), and the plan is its derivative in the cost.
    value : float
        Objective, regularisation included, of a feasible plan (also ``fun``): the optimum is at most this.
    dual_value : float
        Dual objective: the optimum is at least this. It is the more accurate of the two: its error is of second order
        in the marginal error.
    gap : float
        ``value - dual_value``, rounding errors included.
    value_linear : float
        ``<C, plan>``: the cost without the regularisation.
    lp_bounds : (float, float) or None
        Numbers between which the cost of the unregularised optimal plan lies, proven. None if a marginal is not a
        constraint.
    marginal_error : float
        ``sum |P 1 - a| + sum |P' 1 - b|``; where a marginal is penalised, the same with the marginal that the
        potentials ask for.
    """

    def summary(self) -> list[tuple[str, str]]:
        """Rows of the printed form: label and text."""
        rows = dict(super().summary())
        why, _, words = self.message.partition("; ")
        low, high = self.get("lp_bounds") or (None, None)
        rows |= {
            "status": f"{'success' if self.success else 'NO SUCCESS'}: {words}",
            "method": why,
            "plan": f"{self.plan}, marginal error {self.marginal_error:.1e}",
            "value": f"{self.value:.8g}, gap {self.gap:.1e}, <C, plan> = {self.value_linear:.8g}"
            if "gap" in self
            else "",
            "unregularised": f"optimum in [{low:.8g}, {high:.8g}]" if low is not None else "",
        }
        order = ("status", "method", "plan", "value", "unregularised", "certificate", "effort")
        return [(label, rows[label]) for label in order if rows[label]]
