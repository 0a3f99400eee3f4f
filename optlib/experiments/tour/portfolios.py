"""Portfolios of currencies: learners that trade once a day, and how far they can be behind the best in hindsight."""

from functools import partial
from typing import Any

import numpy as np

from optlib import online
from optlib.datasets import DatasetNotFoundError, load_fx_ecb
from optlib.experiments import _page as page
from optlib.experiments.tour._run import Context

TITLE = "Portfolios that know how far behind they can be"

SNIPPET = """
from optlib import online

# relatives (days, currencies): what a euro held in each currency becomes in a day
market = online.PortfolioLosses(relatives)
res = online.play(online.PortfolioONS(relatives.shape[1]), market)
print(res.regret, res.regret_bound)  # of the logarithmic wealth, against the best fixed portfolio
print(res.comparator)  # that portfolio
"""

_CREDIT = (
    "Data: European Central Bank, euro foreign exchange reference rates. Interest and the costs of trading are not "
    "included: this is no advice."
)
_SIMULATED = (
    "The exchange rates of the European Central Bank were not found on this machine (see "
    "<code>optlib.datasets.load_fx_ecb</code>), so these are simulated prices."
)
_CHECKS = 60


def run(context: Context) -> list[str]:
    """Trade with four learners and compare with the best portfolio in hindsight.

    Parameters
    ----------
    context : Context
        Unused but for the progress bars: rounds of a few numbers run on the CPU.

    Returns
    -------
    list of str
        The pieces of the section.
    """
    relatives, names, dates, credit = _market()
    market = online.PortfolioLosses(relatives)
    n = len(names)
    learners = {
        "Newton": online.PortfolioONS(n),
        "Newton, as published": online.PortfolioONS(n, delta=0.125, beta=1.0),
        "AdaHedge": online.AdaHedge(n),
        "uniform": online.UniformPortfolio(n),
    }
    every = max(1, len(relatives) // _CHECKS)
    runs = {}
    for name in context.track(list(learners), "Trading"):
        bounds: list[float] = []
        watch = partial(_watch, learners[name], bounds)
        result = online.play(learners[name], market, check_every=every, callback=watch)
        runs[name] = (result, bounds)
    best = next(iter(runs.values()))[0].comparator
    plots = page.render(lambda: {"curves": _plot(runs, relatives, best, dates)})
    held = ", ".join(f"{100 * best[k]:.0f} % {names[k]}" for k in np.argsort(-best) if best[k] > 0.005)
    days, final = len(relatives), float(np.exp(np.sum(np.log(relatives @ best))))
    return [
        page.paragraph(
            f"Every day for {days:,} days a learner divides its wealth among {n} currencies, without knowing what will "
            f"come. The best fixed division, known only afterwards, is {held}: it turns 1 euro into {final:.2f}. The "
            "regret of a learner is the logarithm of that wealth over its own. Each learner proves a bound on it from "
            "what it has seen, whatever the market does. (With the published parameters Newton's method bets on the "
            "losers.)"
        ),
        page.table(
            [
                (name, f"{np.exp(-result.cumulative_loss):.3f}", f"{result.regret:.3f}", f"≤ {result.regret_bound:.3f}")
                for name, (result, _) in runs.items()
            ],
            header=("learner", "final wealth", "regret", "proven"),
        ),
        page.plot(plots["curves"], "Wealth of a euro; regret (lines) and its proven bound (dashes) as the days go by."),
        page.heading("What to type"),
        page.code(SNIPPET),
        page.paragraph(f"<small>{credit}</small>"),
    ]


def _market() -> tuple[np.ndarray, list[str], np.ndarray, str]:
    """Price relatives, names, dates, and where they are from."""
    try:
        data = load_fx_ecb()
    except DatasetNotFoundError:
        rng = np.random.default_rng(0)
        noise = rng.standard_normal((5000, 9)) + rng.standard_normal((5000, 1))
        days = np.arange("2000-01-03", "2013-09-12", dtype="datetime64[D]")[:5000]
        relatives = np.exp(0.005 * noise + 1e-4 * rng.standard_normal(9))
        return relatives, [f"asset {k + 1}" for k in range(9)], days, _SIMULATED
    return data.relatives, [str(name) for name in data.names], data.dates, _CREDIT


def _watch(learner: online.Learner, bounds: list[float], intermediate_result: Any) -> None:
    bounds.append(learner.regret_bound())


def _plot(runs: dict[str, Any], relatives: np.ndarray, best: np.ndarray, dates: np.ndarray) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 5.6))
    above, below = figure.subplots(2, 1, sharex=True)
    for name, (result, bounds) in runs.items():
        nit = np.asarray(result.history["nit"], dtype=int)
        days = dates[np.maximum(nit, 1) - 1]
        line = above.plot(days, np.exp(-np.asarray(result.history["loss"])), label=name)[0]
        below.plot(days, result.history["stop"], color=line.get_color())
        below.plot(days[-len(bounds) :], bounds, "--", color=line.get_color(), linewidth=1.2)
    above.plot(dates, np.cumprod(relatives @ best), ":", label="best in hindsight", linewidth=1.4)
    above.set(ylabel="wealth", title="What a euro became")
    above.legend(loc="upper left", ncols=2)
    below.set(ylabel="regret", title="Behind the best in hindsight, and at most")
    return figure
