"""Derivatives of transport costs in the positions of the points, from a plan: no automatic differentiation.

The derivative of an optimal value is that of the objective with the plan frozen (envelope theorem).
"""

from optlib.backend import Array
from optlib.transport.cost import PointCloud, row_blocks
from optlib.transport.plan import Plan


def cost_gradient(plan: Plan, cost: PointCloud) -> Array:
    """``sum_j P_ij d c(x_i, y_j) / d x_i``, shape (n, d), in memory O(n + m).

    Squared distances take one product with the plan; the other costs blocks of its rows. Where a distance has a kink
    the subgradient 0 is taken.
    """
    xp, x, y = cost.xp, cost.x, cost.y
    if cost.kind == "sqeuclidean":
        product = plan @ xp.concat([y, xp.ones_like(y[:, :1])], axis=1)
        return 2.0 * cost.scale * (product[:, -1:] * x - product[:, :-1])
    blocks = []
    for i0, i1 in row_blocks(cost):
        weights = plan.rows(i0, i1)
        if cost.kind == "euclidean":
            distance = cost.rows(i0, i1)
            weights = weights / xp.where(distance > 0, distance, xp.ones_like(distance))
        columns = []
        for k in range(x.shape[1]):
            gap = x[i0:i1, k][:, None] - y[:, k][None, :]
            if cost.kind == "lp":
                size = xp.where(gap == 0, xp.ones_like(gap), xp.abs(gap))
                gap = cost.p * xp.sign(gap) * size ** (cost.p - 1.0)
            columns.append(xp.sum(weights * gap, axis=1))
        blocks.append(xp.stack(columns, axis=1))
    return xp.concat(blocks, axis=0)


def is_differentiable(cost: object) -> bool:
    """Whether `cost_gradient` knows the derivative of the cost in the points as the user gave them."""
    return isinstance(cost, PointCloud) and cost.kind != "function" and cost.name != "cosine"
