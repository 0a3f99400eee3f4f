"""Bad input of sensing operators and solvers: name, call, error, pattern."""

import numpy as np

from optlib import sensing

A = sensing.GaussianSensing((4, 3), 10, rng=0)
S = sensing.GaussianSensing((4, 4), 9, rng=0)
E = sensing.random_entries((4, 3), 9, rng=0)

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
    ("y-shape", lambda: sensing.recover(A, np.ones(9), rank=1), ValueError, "`y`"),
    ("y-nan", lambda: sensing.recover(A, np.full(10, np.nan), rank=1), ValueError, "`y`.*finite"),
    ("y-object", lambda: sensing.recover(A, np.array(["a"] * 10), rank=1), TypeError, "`y`"),
    ("operator", lambda: sensing.recover("A", np.ones(3), rank=1), TypeError, "`A`"),
    ("function", lambda: sensing.recover(np.sin, np.ones(3), rank=1), TypeError, "`A`.*LinearSensing"),
    ("high-rank", lambda: sensing.recover(A, np.ones(10), rank=4), ValueError, "`rank`.*at most 3"),
    ("rank-zero", lambda: sensing.recover(A, np.ones(10), rank=0), ValueError, "`rank`"),
    ("rank-needed", lambda: sensing.recover(A, np.ones(10), method="riemannian"), ValueError, "`rank`"),
    ("rank-needed-l1", lambda: sensing.recover(A, np.ones(10), loss="l1"), ValueError, "`loss`.*rank"),
    ("loss", lambda: sensing.recover(A, np.ones(10), rank=1, loss="l3"), ValueError, "`loss`"),
    ("psd", lambda: sensing.recover(A, np.ones(10), rank=1, psd=True), ValueError, "`psd`.*square"),
    ("noise", lambda: sensing.recover(A, np.ones(10), rank=1, noise=-1.0), ValueError, "`noise`"),
    ("method", lambda: sensing.recover(A, np.ones(10), rank=1, method="magic"), ValueError, "`method`"),
    ("als-operator", lambda: sensing.alternating_minimization(A, np.ones(10), rank=1), TypeError, "`A`.*completion"),
    ("alpha", lambda: sensing.gradient_descent(A, np.ones(10), rank=1, alpha=0.0), ValueError, "`alpha`.*stationary"),
    ("step", lambda: sensing.scaled_gd(A, np.ones(10), rank=1, step=-1.0), ValueError, "`step`"),
    ("damping", lambda: sensing.scaled_gd(A, np.ones(10), rank=1, damping=-1.0), ValueError, "`damping`"),
    ("modified", lambda: sensing.gradient_descent(S, np.ones(9), rank=1, psd=True, modified=True), ValueError, "`mod"),
    ("alternating", lambda: sensing.scaled_gd(S, np.ones(9), rank=1, psd=True, alternating=True), ValueError, "`alt"),
    ("inner", lambda: sensing.gauss_newton(A, np.ones(10), rank=1, inner=0), ValueError, "`inner`"),
    ("ridge", lambda: sensing.alternating_minimization(E, np.ones(9), rank=1, ridge=-1.0), ValueError, "`ridge`"),
    ("init", lambda: sensing.recover(A, np.ones(10), rank=1, init=np.ones(4)), TypeError, "`init`"),
    ("init-shape", lambda: sensing.recover(A, np.ones(10), rank=1, init=(np.ones((4, 2)),) * 2), ValueError, "`init`"),
    ("blocks", lambda: A.split(11), ValueError, "`blocks`"),
]
