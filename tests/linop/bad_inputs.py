"""Bad input of operators and Krylov solvers: name, call, error, pattern."""

import array_api_strict as strict
import numpy as np
import scipy.sparse as sp

from optlib import to_device
from optlib.linop import SSOR, Diagonal, Identity, VStack, as_linear_operator, cg, gmres, lsqr, minres, sor

I3, ONES = np.eye(3), np.ones(3)

CASES = [
    ("none", lambda: as_linear_operator(None), TypeError, "`A`.*matrix"),
    ("text", lambda: as_linear_operator("A"), TypeError, "`A`"),
    ("vector", lambda: as_linear_operator(ONES), ValueError, "`A`.*2 dimensions"),
    ("ragged", lambda: as_linear_operator([[1.0], [1.0, 2.0]]), ValueError, "`A`.*ragged"),
    ("complex", lambda: as_linear_operator(1j * I3), TypeError, "`A`.*real"),
    ("object", lambda: as_linear_operator(I3.astype(object)), TypeError, "`A`.*real"),
    ("complex-sparse", lambda: as_linear_operator(sp.csr_array(1j * I3)), TypeError, "`A`.*real"),
    ("function-shape", lambda: as_linear_operator(np.sin), ValueError, "`shape`.*pair"),
    ("negative-shape", lambda: as_linear_operator(np.sin, shape=(3, -1)), ValueError, "`shape`"),
    ("other-shape", lambda: as_linear_operator(I3, shape=(3, 4)), ValueError, "`A`.*shape"),
    ("not-square", lambda: as_linear_operator(np.ones((2, 3)), symmetric=True), ValueError, "`shape`.*square"),
    ("no-transpose", lambda: as_linear_operator(np.diff, shape=(2, 3)).T @ np.ones(2), TypeError, "transpose"),
    ("wrong-product", lambda: as_linear_operator(np.diff, shape=(3, 3)) @ ONES, ValueError, r"matvec.*\(2,\)"),
    ("no-array", lambda: as_linear_operator(np.ndarray.tolist, shape=(3, 3)) @ ONES, ValueError, "matvec.*list"),
    ("product-shape", lambda: as_linear_operator(I3) @ np.ones(4), ValueError, r"`x`.*\(4,\)"),
    ("product-3d", lambda: as_linear_operator(I3) @ np.ones((3, 1, 1)), ValueError, "`x`"),
    ("sum-shape", lambda: Identity(3) + Identity(2), ValueError, "`operators`.*add"),
    ("chain-shape", lambda: Identity(3) @ Identity(2), ValueError, "`operators`.*multiply"),
    ("stack-shape", lambda: VStack(Identity(3), Identity(2)), ValueError, "`operators`"),
    ("stack-nothing", lambda: VStack(), ValueError, "`operators`"),
    ("mixed-sum", lambda: Identity(3) + Identity(3, like=strict.ones(1)), TypeError, "`operators`.*strict"),
    ("identity-size", lambda: Identity(-1), ValueError, "`n`"),
    ("diagonal-matrix", lambda: Diagonal(I3), ValueError, "`d`.*1 dimension"),
    ("to-scipy", lambda: Identity(3, like=strict.ones(1)).to_scipy(), TypeError, "strict"),
    ("move-function", lambda: to_device(as_linear_operator(np.sin, shape=(3, 3)), "numpy"), TypeError, "functions"),
    ("move-sparse", lambda: as_linear_operator(sp.eye_array(3))._map_arrays(strict.asarray), TypeError, "sparse"),
    ("cg-rectangular", lambda: cg(np.ones((2, 3)), np.ones(2)), ValueError, "`A`.*square.*lsqr"),
    ("cg-long", lambda: cg(I3, np.ones(4)), ValueError, r"`b`.*\(4,\)"),
    ("cg-no-columns", lambda: cg(I3, np.ones((3, 0))), ValueError, "`b`.*k >= 1"),
    ("cg-number", lambda: cg(I3, 1.0), ValueError, "`b`"),
    ("cg-function-number", lambda: cg(np.sin, 1.0), ValueError, "`b`"),
    ("cg-nan", lambda: cg(I3, [1.0, np.nan, 0.0]), ValueError, "`b`.*NaN"),
    ("cg-complex", lambda: cg(I3, 1j * ONES), TypeError, "`b`.*real"),
    ("cg-mixed", lambda: cg(I3, strict.ones(3)), TypeError, "`A`.*`b`|one library"),
    ("cg-init", lambda: cg(I3, ONES, init=np.ones(2)), ValueError, "`init`"),
    ("cg-init-nan", lambda: cg(I3, ONES, init=[np.inf, 0, 0]), ValueError, "`init`"),
    ("cg-init-other", lambda: cg(I3, ONES, init=minres(I3, ONES)), TypeError, "`init`.*MINRESState"),
    ("cg-preconditioner", lambda: cg(I3, ONES, preconditioner=np.eye(2)), ValueError, "`preconditioner`"),
    ("cg-preconditioner-mixed", lambda: cg(I3, ONES, preconditioner=strict.eye(3)), TypeError, "preconditioner"),
    ("cg-tol", lambda: cg(I3, ONES, tol=-1.0), ValueError, "`tol`"),
    ("cg-atol", lambda: cg(I3, ONES, atol=np.nan), ValueError, "`atol`"),
    ("cg-maxiter", lambda: cg(I3, ONES, maxiter=1.5), TypeError, "`maxiter`"),
    ("gmres-rectangular", lambda: gmres(np.ones((2, 3)), np.ones(2)), ValueError, "`A`.*square.*lsqr"),
    ("gmres-restart", lambda: gmres(I3, ONES, restart=0), ValueError, "`restart`"),
    ("gmres-init-other", lambda: gmres(I3, ONES, init=cg(I3, ONES)), TypeError, "`init`.*CGState"),
    ("lsqr-damp", lambda: lsqr(I3, ONES, damp=-1), ValueError, "`damp`"),
    ("lsqr-function", lambda: lsqr(np.sin, ONES), ValueError, "`shape`"),
    ("sor-omega", lambda: sor(I3, ONES, omega=2.0), ValueError, "`omega`.*2.*< 2"),
    ("sor-omega-nan", lambda: sor(I3, ONES, omega=np.nan), ValueError, "`omega`"),
    ("sor-diagonal", lambda: sor(1.0 - I3, ONES), ValueError, "`A`.*diagonal"),
    ("sor-nan", lambda: sor(np.nan * I3, ONES), ValueError, "`A`.*NaN"),
    ("sor-rectangular", lambda: sor(np.ones((3, 2)), ONES), ValueError, "`A`.*square"),
    ("sor-operator", lambda: sor(Identity(3), ONES), ValueError, "`A`.*Identity.*entries.*cg"),
    ("sor-b", lambda: sor(I3, np.ones((3, 2))), ValueError, r"`b`.*\(3, 2\)"),
    ("sor-init", lambda: sor(I3, ONES, init=np.ones(2)), ValueError, "`init`"),
    ("sor-init-other", lambda: sor(I3, ONES, init=cg(I3, ONES)), TypeError, "`init`.*CGState"),
    ("sor-tol", lambda: sor(I3, ONES, tol=-1.0), ValueError, "`tol`"),
    ("ssor-omega", lambda: SSOR(I3, 0.0), ValueError, "`omega`.*> 0"),
    ("ssor-diagonal", lambda: SSOR(-I3), ValueError, "`A`.*diagonal"),
]

CASES += [
    (f"{solver.__name__}-preconditioner-{kind}", lambda f=solver, M=M: f(I3, ONES, preconditioner=M), error, pattern)
    for solver in (cg, minres, gmres)
    for kind, M, error, pattern in [
        ("text", "ilu", TypeError, "`preconditioner`.*ilu.*a matrix|`preconditioner`.*an array"),
        ("number", 1.0, ValueError, "`preconditioner`.*shape"),
        ("dict", {}, TypeError, "`preconditioner`"),
        ("nothing", lambda v: None, ValueError, r"`preconditioner \(matvec\)`.*NoneType"),
    ]
]
CASES += [
    ("shape-number", lambda: as_linear_operator(I3, shape=3), ValueError, "`shape`.*pair"),
    ("shape-text", lambda: as_linear_operator(np.sin, shape="33"), ValueError, "`shape`.*pair"),
    ("promise", lambda: as_linear_operator(I3, symmetric="yes"), ValueError, "`symmetric`.*True"),
    ("like", lambda: Identity(3, like="numpy"), TypeError, "`like`"),
    ("masked", lambda: cg(np.ma.masked_array(I3), ONES), TypeError, "`A`.*masked.*filled"),
    ("complex-vector", lambda: Identity(3) @ (1j * ONES), TypeError, "`x`.*complex128.*real"),
    ("times-array", lambda: as_linear_operator(I3) * ONES, TypeError, r"`c`.*\(3,\).*number.*to_dense"),
]
