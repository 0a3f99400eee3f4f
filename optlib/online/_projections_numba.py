"""Sequential projections and shortest paths in Numba."""

import numpy as np
from numba import njit

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}


def cyclic_projections(x, z, data, indices, indptr, bounds, scale, sweeps):
    """Variant of `optlib.online.project_and_forget.cyclic_projections`."""
    x, z = np.array(x), np.array(z)
    _cycle(x, z, data, indices, indptr, bounds, scale, sweeps)
    return x, z


@njit(**_OPTIONS)
def _cycle(x, z, data, indices, indptr, bounds, scale, sweeps):
    sizes = np.zeros_like(z)
    for i in range(z.size):
        for k in range(indptr[i], indptr[i + 1]):
            sizes[i] += data[k] * data[k] * scale[indices[k]]
    for _ in range(sweeps):
        for i in range(z.size):
            rest = bounds[i]
            for k in range(indptr[i], indptr[i + 1]):
                rest -= data[k] * x[indices[k]]
            theta = rest / sizes[i]
            c = theta if theta < z[i] else z[i]
            if c != 0.0:
                for k in range(indptr[i], indptr[i + 1]):
                    x[indices[k]] += c * data[k] * scale[indices[k]]
                z[i] -= c


def shortest_paths(x):
    """Variant of `optlib.online.metric_nearness.shortest_paths`."""
    distance = np.array(x, order="C")
    following = np.empty(x.shape, np.int64)
    _floyd(distance, following)
    return distance, following


@njit(**_OPTIONS)
def _floyd(distance, following):
    n = distance.shape[0]
    for i in range(n):
        for j in range(n):
            following[i, j] = j
    for k in range(n):
        row = distance[k].copy()
        for i in range(n):
            first, via, out = distance[i, k], following[i, k], distance[i]
            for j in range(n):
                longer = first + row[j]
                if longer < out[j]:
                    out[j] = longer
                    following[i, j] = via


def cycles(edges, following):
    """Entries, columns and row starts of the inequalities ``x_uv <= sum of the path from u to v``."""
    lengths = np.empty(edges.shape[0], np.int64)
    _lengths(edges, following, lengths)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths + 1)])
    indices = np.empty(indptr[-1], np.int64)
    data = np.full(indptr[-1], -1.0)
    _cycles(edges, following, indptr, indices, data)
    return data, indices, indptr


@njit(**_OPTIONS)
def _lengths(edges, following, lengths):
    for i in range(edges.shape[0]):
        u, v = edges[i]
        lengths[i] = 0
        while u != v:
            u = following[u, v]
            lengths[i] += 1


@njit(**_OPTIONS)
def _cycles(edges, following, indptr, indices, data):
    n = following.shape[0]
    for i in range(edges.shape[0]):
        u, v = edges[i]
        k = indptr[i]
        indices[k] = min(u, v) * n + max(u, v)
        data[k] = 1.0
        while u != v:
            w = following[u, v]
            k += 1
            indices[k] = min(u, w) * n + max(u, w)
            u = w
