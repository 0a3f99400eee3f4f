"""What the transport solvers return."""

from collections.abc import Callable
from typing import Any

from optlib._core import Result


def _complete(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of mappings, for results whose fields may still have to be computed."""

    def call(self: "TransportResult", *args: Any) -> Any:
        self.complete()
        return method(self, *args)

    call.__doc__ = f"The method ``{method.__name__}`` of dictionaries, on all fields."
    return call


class TransportResult(Result):
    """Result of a transport solver.

    All fields of `optlib.Result`, and those below. Fields that cost passes over the data are computed when the first of
    them is asked for: the value and its bounds, and the certificate, where it is proven already that it holds. Do not
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

    def defer(self, later: Callable[[], dict[str, Any]]) -> None:
        """Set the function that computes the fields that are not there yet."""
        object.__setattr__(self, "_later", later)  # not a field

    def complete(self) -> None:
        """Compute the fields that are not there yet."""
        if (later := self.__dict__.pop("_later", None)) is not None:
            for name, value in later().items():
                self.setdefault(name, value)

    def __missing__(self, name: str) -> Any:
        if "_later" not in self.__dict__:
            raise KeyError(name)
        self.complete()
        return self[name]

    keys, values, items, get = _complete(dict.keys), _complete(dict.values), _complete(dict.items), _complete(dict.get)
    __iter__, __len__, __contains__ = _complete(dict.__iter__), _complete(dict.__len__), _complete(dict.__contains__)
    __eq__, __reduce_ex__ = _complete(dict.__eq__), _complete(dict.__reduce_ex__)

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
