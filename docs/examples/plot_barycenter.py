"""
Means of shapes
===============

The mean of two images is a double exposure. Their Wasserstein barycenter lies between them: mass moves. The entropic
one is blurred by about the root of ``reg``; the debiased one is not.
"""

import matplotlib.pyplot as plt
import numpy as np

from optlib.transport import GridCost, barycenter

n, reg = 40, 2e-3
axis = np.linspace(-1.0, 1.0, n)
u, v = np.meshgrid(axis, axis, indexing="ij")
ring = (np.abs(np.hypot(u, v) - 0.6) < 0.13).astype(float)
bars = ((np.abs(np.abs(u) - 0.55) < 0.13) & (np.abs(v) < 0.7)).astype(float)
shapes = np.stack([ring.ravel(), bars.ravel()]) + 1e-6
shapes = shapes / shapes.sum(axis=1, keepdims=True)

# %%
# On a grid the cost separates into the axes, and so do all passes over it: here 1600 x 1600 entries are never formed.

cost = GridCost([axis, axis])
rows = {}
for name, options in {"entropic": {}, "debiased": {"debiased": True}}.items():
    rows[name] = [barycenter(cost, shapes, [1 - t, t], reg=reg, tol=1e-4, **options) for t in (0.25, 0.5, 0.75)]
    print(f"{name}: {[res.success for res in rows[name]]}, {[res.nit for res in rows[name]]} iterations")

figure, axes = plt.subplots(2, 5, figsize=(9, 4), layout="constrained")
for line, (name, found) in zip(axes, rows.items(), strict=True):
    images = [shapes[0], *(res.x for res in found), shapes[1]]
    for axis_, image, share in zip(line, images, (0, 0.25, 0.5, 0.75, 1), strict=True):
        axis_.imshow(image.reshape(n, n), cmap="magma")
        axis_.set(title=f"{name}, {share:g}" if share not in (0, 1) else "", xticks=[], yticks=[])
