"""Starting points for fits of mixtures."""

import math

import numpy as np


def distant(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows, each drawn with probability proportional to its squared distance from those before (k-means++).

    References
    ----------
    D. Arthur, S. Vassilvitskii, k-means++: the advantages of careful seeding, SODA 2007.
    """
    chosen = [points[rng.integers(len(points))]]
    distance = np.full(len(points), math.inf)
    for _ in range(count - 1):
        distance = np.minimum(distance, np.sum((points - chosen[-1]) ** 2, axis=1))
        total = distance.sum()
        chosen.append(points[rng.choice(len(points), p=distance / total if total > 0 else None)])
    return np.array(chosen)
