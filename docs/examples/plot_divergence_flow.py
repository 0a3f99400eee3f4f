"""
A gradient flow without automatic differentiation
==================================================

`divergence` returns its gradient in the positions of the points. Following it moves one cloud onto another; with the
entropic cost alone, which is not least at equality, the points would gather short of the target.
"""

import matplotlib.pyplot as plt
import numpy as np

from optlib.transport import PointCloud, divergence, solve

rng = np.random.default_rng(0)
n, reg, steps = 300, 0.1, 25
angle = rng.uniform(0, 2 * np.pi, n)
target = np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.uniform(0.9, 1.1, (n, 1))
start = 0.15 * rng.normal(size=(n, 2)) + [-1.2, 0.6]

# %%
# The potentials of one step start the next one.

x, potentials, values, frames = start, None, [], [start]
for _ in range(steps):
    res = divergence(PointCloud(x, target), reg=reg, init=potentials)
    x, potentials = x - 0.25 * n * res.gradients.x, res.potentials
    values.append(res.value)
    frames.append(x)
print(f"divergence {values[0]:.3f} -> {values[-1]:.5f}")

# %%
# The same with the entropic cost, whose gradient is that of its first term: points move towards barycentric means.

biased = start
for _ in range(steps):
    plan = solve(PointCloud(biased, target), reg=reg).plan
    biased = biased + 0.5 * (plan.barycentric(target) - biased)

figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained", sharex=True, sharey=True)
shown = {"start": frames[0], "after 4 steps": frames[4], f"after {steps} steps": frames[-1], "entropic cost": biased}
for axis, (title, points) in zip(axes, shown.items(), strict=True):
    axis.scatter(*target.T, s=4, color="0.75")
    axis.scatter(*points.T, s=4, color="C3")
    axis.set(title=title, aspect="equal", xticks=[], yticks=[])
