"""
Outliers and unequal masses
===========================

Balanced transport must move all the mass, outliers included. With ``unbalanced=rho`` mass that stays where it is costs
about ``rho`` at either end, so mass whose transport would cost more is left alone.
"""

import matplotlib.pyplot as plt
import numpy as np

import optlib

rng = np.random.default_rng(0)
x = np.concatenate([rng.normal(size=(80, 2)) * 0.3, rng.normal(size=(8, 2)) * 0.15 + [0.0, 5.0]])
y = rng.normal(size=(70, 2)) * 0.3 + [2.0, 0.0]
a, b = np.full(len(x), 1 / 80), np.full(len(y), 1 / 70)  # the outliers make the masses unequal
cloud = optlib.transport.PointCloud(x, y)

# %%
# The balanced problem has no solution with these masses, and says so.

try:
    optlib.transport.solve(cloud, a, b, reg=0.05)
except ValueError as error:
    print(error)

# %%
# Normalised, the balanced plan drags the targets to the outliers; the unbalanced one leaves the outliers alone.

balanced = optlib.transport.solve(cloud, a / a.sum(), b / b.sum(), reg=0.05)
relaxed = optlib.transport.solve(cloud, a, b, reg=0.05, unbalanced=6.0)

figure, axes = plt.subplots(1, 2, figsize=(9, 5), layout="constrained", sharex=True, sharey=True)
for axis, res, title in zip(axes, (balanced, relaxed), ("balanced", "unbalanced"), strict=True):
    plan = res.plan.toarray()
    for i, j in zip(*np.nonzero(plan > 0.2 * plan.max()), strict=True):
        axis.plot(*zip(x[i], y[j], strict=True), color="0.75", linewidth=0.7, zorder=0)
    axis.scatter(*x.T, s=6 + 1500 * plan.sum(axis=1), label="sources")
    axis.scatter(*y.T, s=6 + 1500 * plan.sum(axis=0), label="targets")
    axis.set(title=f"{title}: mass moved {plan.sum():.2f}", aspect="equal")
axes[0].legend()
