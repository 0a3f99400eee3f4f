"""
What a certificate proves
=========================

Entropic transport answers a regularised question. Two numbers that come with every result say how good the answer is
for the question without regularisation: its cost lies between ``lp_bounds``, whatever ``reg`` was.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import linear_sum_assignment

import optlib

rng = np.random.default_rng(0)
n = 300
x, y = rng.normal(size=(n, 2)), rng.normal(size=(n, 2)) * [1.5, 0.5] + [1.0, 0.0]
cost = optlib.transport.PointCloud(x, y).toarray()

# %%
# With equal weights the exact answer is an assignment, so the bounds can be checked.

rows, columns = linear_sum_assignment(cost)
exact = cost[rows, columns].mean()

regs = np.geomspace(1.0, 1e-3, 10) * cost.max()
lower, upper = np.array([optlib.transport.solve(cost, reg=reg).lp_bounds for reg in regs]).T
print(f"at the smallest reg: {lower[-1]:.5f} <= {exact:.5f} <= {upper[-1]:.5f}")

figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
axis.fill_between(regs / cost.max(), lower, upper, alpha=0.3, label="certified interval")
axis.axhline(exact, color="k", linewidth=1, label="exact cost")
axis.set(xscale="log", xlabel="reg / largest cost", ylabel="cost of transport")
axis.legend()

# %%
# The duality gap is the certificate of the regularised problem itself. It falls with the iterations; a run that is cut
# short still knows how far it got.

cuts = [1, 2, 5, 10, 20, 50, 100]
gaps = [optlib.transport.solve(cost, reg=0.005 * cost.max(), tol=None, maxiter=k).certificate.value for k in cuts]
figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
axis.loglog(cuts, gaps, "o-")
axis.set(xlabel="iterations", ylabel="duality gap")
