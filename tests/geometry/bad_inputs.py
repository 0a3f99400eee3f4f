"""Bad input of projections, proximal operators and domains: name, call, error, pattern."""

import array_api_strict as strict
import numpy as np

from optlib import geometry as geo

ONES, I3 = np.ones(3), np.eye(3)
VECTOR = {
    "simplex": geo.project_simplex,
    "capped": geo.project_capped_simplex,
    "weighted": lambda x: geo.project_weighted_simplex(x, 1.0),
    "l1": geo.project_l1_ball,
    "weighted-l1": lambda x: geo.project_weighted_l1_ball(x, 1.0),
    "l2": geo.project_l2_ball,
    "ellipsoid": lambda x: geo.project_ellipsoid(x, I3),
    "box": geo.project_box,
    "kl-floor": lambda x: geo.project_kl_floor(x, 0.0),
    "kl-cap": lambda x: geo.project_kl_cap(x, 1.0),
    "prox-l1": geo.prox_l1,
    "elastic-net": geo.prox_elastic_net,
    "group": geo.prox_group_l2,
    "tv": geo.prox_tv1d,
}
MATRIX = {
    "psd": geo.project_psd,
    "spectrahedron": geo.project_spectrahedron,
    "nuclear": geo.project_nuclear_ball,
    "prox-nuclear": geo.prox_nuclear,
}
POINTS = [
    (f"{name}-{kind}", lambda f=f, x=x: f(x), error, pattern)
    for name, f in {**VECTOR, **MATRIX}.items()
    for kind, x, error, pattern in [
        ("none", None, TypeError, "`x`.*real"),
        ("text", "abc", TypeError, "`x`"),
        ("object", ONES.astype(object), TypeError, "`x`.*real"),
        ("complex", 1j * ONES, TypeError, "`x`.*real"),
        ("ragged", [[1.0], [1.0, 2.0]], ValueError, "`x`.*ragged"),
        ("number", 1.0, ValueError, "`x`.*shape.*axis|`x`.*shape.*axes"),
        ("empty", np.ones((2, 0)), ValueError, "`x`.*length > 0"),
    ]
]
AMOUNTS = [
    (f"{name}-{kind}", lambda f=f, value=value: f(value), error, pattern)
    for name, (f, argument) in {
        "simplex-mass": (lambda v: geo.project_simplex(np.ones((2, 3)), v), "mass"),
        "capped-mass": (lambda v: geo.project_capped_simplex(np.ones((2, 3)), v), "mass"),
        "l1-radius": (lambda v: geo.project_l1_ball(np.ones((2, 3)), v), "radius"),
        "l2-radius": (lambda v: geo.project_l2_ball(np.ones((2, 3)), v), "radius"),
        "trace": (lambda v: geo.project_spectrahedron(np.ones((2, 3, 3)), v), "trace"),
        "nuclear-radius": (lambda v: geo.project_nuclear_ball(np.ones((2, 3, 3)), v), "radius"),
        "kl-mass": (lambda v: geo.project_kl_floor(np.ones((2, 3)), 0.0, v), "mass"),
        "tv-reg": (lambda v: geo.prox_tv1d(np.ones((2, 3)), v), "reg"),
        "nuclear-reg": (lambda v: geo.prox_nuclear(np.ones((2, 3, 3)), v), "reg"),
    }.items()
    for kind, value, error, pattern in [
        ("negative", -1.0, ValueError, f"`{argument}`.*>= 0|`{argument}`.*> 0"),
        ("nan", np.nan, ValueError, f"`{argument}`"),
        ("infinite", np.inf, ValueError, f"`{argument}`.*finite"),
        ("text", "1", TypeError, f"`{argument}`"),
        ("shape", np.ones(3), ValueError, rf"`{argument}`.*\(3,\).*\(2,\)"),
        ("negative-row", [1.0, -1.0], ValueError, f"`{argument}`.*-1"),
        ("mixed", strict.ones(2), TypeError, f"`{argument}`.*one library"),
    ]
]
CASES = [
    *POINTS,
    *AMOUNTS,
    ("mass-overflow", lambda: geo.project_simplex(ONES.astype("f4"), 1e39), ValueError, r"`mass`.*1e\+39.*<= 2.8"),
    ("capped-room", lambda: geo.project_capped_simplex(ONES, 4.0), ValueError, "`mass`.*caps"),
    ("capped-negative", lambda: geo.project_capped_simplex(ONES, 1.0, [1.0, 1.0, -1.0]), ValueError, "`cap`.*-1"),
    ("weights-zero", lambda: geo.project_weighted_simplex(ONES, [1.0, 0.0, 1.0]), ValueError, "`weights`.*positive"),
    ("weights-shape", lambda: geo.project_weighted_l1_ball(ONES, np.ones(2)), ValueError, r"`weights`.*\(2,\).*\(3,\)"),
    ("weights-nan", lambda: geo.project_weighted_l1_ball(ONES, [1.0, np.nan, 1.0]), ValueError, "`weights`.*NaN"),
    ("metric-shape", lambda: geo.project_l2_ball(ONES, metric=np.eye(2)), ValueError, r"`metric`.*\(2, 2\)"),
    ("metric-singular", lambda: geo.project_l2_ball(ONES, metric=np.ones((3, 3))), ValueError, "`metric`.*definite"),
    ("metric-radius", lambda: geo.project_l2_ball(ONES, 0.0, metric=I3), ValueError, "`radius`.*> 0"),
    ("ellipsoid-indefinite", lambda: geo.project_ellipsoid(ONES, -I3), ValueError, "`a`.*semidefinite"),
    ("ellipsoid-skew", lambda: geo.project_ellipsoid(ONES, np.triu(np.ones((3, 3)))), ValueError, "`a`.*symmetric"),
    ("ellipsoid-nan", lambda: geo.project_ellipsoid(ONES, np.nan * I3), ValueError, "`a`.*NaN"),
    ("box-interval", lambda: geo.project_box(ONES, 2.0, [1.0, 3.0, 3.0]), ValueError, "`lower, upper`.*interval"),
    ("box-nan", lambda: geo.project_box(ONES, [0.0, np.nan, 0.0]), ValueError, "`lower, upper`.*NaN"),
    ("psd-rectangular", lambda: geo.project_psd(np.ones((2, 3))), ValueError, "`x`.*square"),
    ("spectrahedron-rectangular", lambda: geo.project_spectrahedron(np.ones((2, 3))), ValueError, "`x`.*square"),
    ("floor-sum", lambda: geo.project_kl_floor(ONES, 0.5), ValueError, "`floor`.*mass"),
    ("cap-sum", lambda: geo.project_kl_cap([1.0, 0.0, 1.0], 0.4), ValueError, "`cap`.*mass"),
    ("kl-negative", lambda: geo.project_kl_floor([1.0, -1.0], 0.0), ValueError, "`x`.*negative"),
    ("kl-zero", lambda: geo.project_kl_cap([[1.0, 1.0], [0.0, 0.0]], 0.5), ValueError, "`x`.*row of zeros"),
    ("reg-negative", lambda: geo.prox_l1(ONES, [1.0, -1.0, 1.0]), ValueError, "`reg`.*-1"),
    ("l2-negative", lambda: geo.prox_elastic_net(ONES, 1.0, -1.0), ValueError, "`l2`.*>= 0"),
    ("groups-divisor", lambda: geo.prox_group_l2(ONES, groups=2), ValueError, "`groups`.*divisor"),
    ("groups-zero", lambda: geo.prox_group_l2(ONES, groups=0), ValueError, "`groups`.*>= 1"),
    ("groups-bool", lambda: geo.prox_group_l2(ONES, groups=True), TypeError, "`groups`.*integer"),
    ("groups-shape", lambda: geo.prox_group_l2(ONES, groups=[0, 1]), ValueError, r"`groups`.*\(2,\)"),
    ("groups-float", lambda: geo.prox_group_l2(ONES, groups=[0.0, 1.0, 2.0]), ValueError, "`groups`.*float64"),
    ("groups-negative", lambda: geo.prox_group_l2(ONES, groups=[0, -1, 0]), ValueError, "`groups`.*negative"),
    ("groups-ragged", lambda: geo.prox_group_l2(ONES, groups=[[0], [1, 2]]), ValueError, "`groups`.*ragged"),
    ("groups-reg", lambda: geo.prox_group_l2(ONES, np.ones(3), groups=[0, 0, 1]), ValueError, r"`reg`.*\(3,\).*\(2,\)"),
    ("domain-size", lambda: geo.Simplex(0), ValueError, "`n`.*>= 1"),
    ("domain-mass", lambda: geo.Simplex(3, 0.0), ValueError, "`mass`.*> 0"),
    ("domain-radius", lambda: geo.L1Ball(3, -1.0), ValueError, "`radius`.*> 0"),
    ("domain-middle", lambda: geo.Ball(3, 1.0, [0.0, 0.0]), ValueError, r"`middle`.*\(2,\)"),
    ("domain-box-size", lambda: geo.Box(0.0, 1.0), ValueError, "`n`.*number of entries"),
    ("domain-box-lengths", lambda: geo.Box(np.zeros(2), np.ones(3)), ValueError, r"`upper`.*\(3,\).*\(2,\)"),
    ("domain-box-empty", lambda: geo.Box(1.0, 0.0, 2), ValueError, "`lower, upper`.*interval"),
    ("domain-point", lambda: geo.Simplex(3).project(np.ones(4)), ValueError, r"`x`.*\(4,\).*\(\.\.\., 3\)"),
    ("domain-matrix", lambda: geo.NuclearBall(2, 3).contains(np.ones((3, 2))), ValueError, r"`x`.*\(\.\.\., 2, 3\)"),
    ("domain-tol", lambda: geo.Simplex(3).contains(ONES, -1.0), ValueError, "`tol`.*>= 0"),
]

CASES += [
    ("affine-vector", lambda: geo.AffineProjection(ONES), ValueError, "`G`"),
    ("affine-side", lambda: geo.AffineProjection(I3, ONES[:2]), ValueError, "`h`"),
    ("affine-empty", lambda: geo.AffineProjection(np.ones((0, 3))), ValueError, "`G`"),
    ("intersection-sets", lambda: geo.project_intersection(ONES, [ONES]), TypeError, "`projections`"),
    ("intersection-tol", lambda: geo.project_intersection(ONES, [abs], tol=-1.0), ValueError, "`tol`"),
]

CASES += [
    ("intersection-one", lambda: geo.project_intersection(ONES, abs), TypeError, "`projections`.*list of functions"),
    ("intersection-maxiter", lambda: geo.project_intersection(ONES, [abs], maxiter=1.5), TypeError, "`maxiter`"),
    ("map-matrix", lambda: geo.Quadratic({}), TypeError, "`a`.*dict"),
    (
        "map-box-lengths",
        lambda: geo.EuclideanBox(np.zeros(3), np.ones(2)),
        ValueError,
        r"`lower, upper`.*\(3,\).*\(2,\)",
    ),
    ("map-box-empty", lambda: geo.EuclideanBox([], []), ValueError, "`lower, upper`.*at least one"),
    ("map-box-matrix", lambda: geo.QuadraticBox(I3, 0.0, np.ones(2)), ValueError, "`lower, upper`.*3 entries"),
    (
        "map-box-point",
        lambda: geo.EuclideanBox(np.zeros(3), 1.0).project(np.ones(2)),
        ValueError,
        r"`y`.*\(2,\).*\(3,\)",
    ),
    ("map-ball-middle", lambda: geo.EuclideanBall(1.0, 0.0), ValueError, "`middle`.*a point"),
    ("map-eta", lambda: geo.Entropy().step(ONES / 3, ONES, []), ValueError, r"`eta`.*\(0,\)"),
    ("map-eta-infinite", lambda: geo.Entropy().step(ONES / 3, ONES, np.float32(np.inf)), ValueError, "`eta`.*inf"),
    ("ball-size", lambda: geo.Ball("3", 1.0, ONES), TypeError, "`n`.*'3'"),
    ("box-size", lambda: geo.Box(ONES, 2.0, n=1.5), TypeError, "`n`.*1.5"),
]
