"""Bad input of sensing operators and solvers: name, call, error, pattern."""

import numpy as np

from optlib import sensing

A = sensing.GaussianSensing((4, 3), 10, rng=0)

CASES = [
    ("no-measurement", lambda: sensing.GaussianSensing((4, 3), 0), ValueError, "`m`"),
    ("float-m", lambda: sensing.GaussianSensing((4, 3), 2.5), TypeError, "`m`"),
    ("size", lambda: sensing.GaussianSensing(4, 3), TypeError, "`matrix_shape`"),
    ("empty-side", lambda: sensing.RegeneratedSensing((0, 3), 3), ValueError, "`matrix_shape`"),
    ("distribution", lambda: sensing.RegeneratedSensing((4, 3), 3, "uniform"), ValueError, "`distribution`"),
    ("too-many-numbers", lambda: sensing.RegeneratedSensing((2**31, 2**31), 9), ValueError, "`m`"),
    ("flat-matrices", lambda: sensing.DenseSensing(np.ones((3, 4))), ValueError, "`matrices`.*3 dim"),
    ("nan-matrices", lambda: sensing.DenseSensing(np.full((2, 2, 2), np.nan)), ValueError, "`matrices`.*finite"),
    ("complex-matrices", lambda: sensing.DenseSensing(1j * np.ones((2, 2, 2))), TypeError, "`matrices`.*real"),
    ("no-matrices", lambda: sensing.DenseSensing(np.ones((0, 2, 2))), ValueError, "`matrices`"),
    ("rank-one-sizes", lambda: sensing.RankOneSensing(np.ones((3, 2)), np.ones((4, 2))), ValueError, "`b`"),
    ("rank-one-empty", lambda: sensing.RankOneSensing(np.ones((0, 2))), ValueError, "`a`"),
    ("row-range", lambda: sensing.EntrySampling([0, 4], [0, 0], (4, 3)), ValueError, r"`rows`.*0\.\.3"),
    ("col-negative", lambda: sensing.EntrySampling([0, 1], [0, -1], (4, 3)), ValueError, "`cols`"),
    ("float-index", lambda: sensing.EntrySampling([0.5], [0], (4, 3)), TypeError, "`rows`"),
    ("lengths", lambda: sensing.EntrySampling([0, 1], [0], (4, 3)), ValueError, "`cols`"),
    ("duplicate", lambda: sensing.EntrySampling([1, 0, 1], [2, 0, 2], (4, 3)), ValueError, "twice"),
    ("no-entry", lambda: sensing.EntrySampling([], [], (4, 3)), ValueError, "`rows`"),
    ("too-many-entries", lambda: sensing.random_entries((4, 3), 13), ValueError, "`m`"),
    ("hadamard", lambda: sensing.SubsampledTransform((4, 3), 3, "hadamard"), ValueError, "powers of two"),
    ("transform", lambda: sensing.SubsampledTransform((4, 3), 3, "haar"), ValueError, "`transform`"),
    ("linear-columns", lambda: sensing.LinearSensing(np.ones((3, 5)), (2, 2)), ValueError, "`operator`"),
    ("forward-shape", lambda: A.forward(np.ones((3, 4))), ValueError, "`X`"),
    ("factor-columns", lambda: A.forward_factored(np.ones((4, 2)), np.ones((3, 1))), ValueError, "`G`"),
    ("adjoint-shape", lambda: A.adjoint(np.ones(9)), ValueError, "`z`"),
    ("blocks", lambda: A.split(11), ValueError, "`blocks`"),
]
