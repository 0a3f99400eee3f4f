"""A call of every solver of `optlib.sensing` that takes more than a few iterations."""

from tests.sensing.problems import gaussian, on


def rectangular(backend):
    return on(backend, gaussian(0, 9, 7, 2, over=2.0, kappa=50.0)), {"rank": 2}


CASES = {f"sensing.{name}": rectangular for name in ("levenberg_marquardt", "riemannian")}
