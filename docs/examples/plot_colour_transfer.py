"""
Transfer colours between photographs
====================================

The pixels of a photograph are points in the cube of colours. Transport between the colours of two photographs says
which colour becomes which; the barycentric map of the plan repaints one photograph with the palette of the other. Here
on a few thousand pixels; ``optlib tour`` does it on more than 20 000 pixels a side.

Photographs: china.jpg by danielbuechele and flower.jpg by vultilion, both CC BY 2.0, bundled with scikit-learn; the
repainted one is derived from them.
"""

import matplotlib.pyplot as plt
import numpy as np

import optlib

photographs = optlib.datasets.load_photographs()
china, flower = (photographs[name][::8, ::8] for name in ("china", "flower"))
x, y = china.reshape(-1, 3), flower.reshape(-1, 3)
print(f"{len(x)} pixels against {len(y)}")

# %%
# The cost is the squared distance of colours. `PointCloud` never stores the matrix of all pairs.

cloud = optlib.transport.PointCloud(x, y)
res = optlib.transport.solve(cloud, reg=0.01)
print(res)

# %%
# A pixel's new colour is the mean of the colours it is sent to, weighted by the plan, which stays an operator.

new = res.plan.barycentric(y)
repainted = np.clip(new, 0.0, 1.0).reshape(china.shape)

figure, axes = plt.subplots(1, 3, figsize=(10, 2.6), layout="constrained")
for axis, image, title in zip(axes, (china, flower, repainted), ("content", "palette", "result"), strict=True):
    axis.imshow(image)
    axis.set_title(title)
    axis.axis("off")
