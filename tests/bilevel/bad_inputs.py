"""Bad input of bilevel problems and hypergradients: name, call, error, pattern."""

import array_api_strict as strict
import numpy as np
import scipy.sparse as sp

from optlib.bilevel import (
    AffineConstraintProblem,
    CleaningProblem,
    CoshProblem,
    CounterexampleProblem,
    EquilibriumProblem,
    FieldsOfExpertsProblem,
    FoldsProblem,
    KernelRidgeFoldsProblem,
    KernelRidgeProblem,
    LassoProblem,
    LeastSquaresProblem,
    LeaveOneOutRidgeProblem,
    LogisticProblem,
    MultinomialProblem,
    QuadraticProblem,
    RidgeProblem,
    ShallowNetProblem,
    StackelbergProblem,
    SumConstraintProblem,
    SVMProblem,
    TotalVariationProblem,
    bamm,
    bda,
    bo_rep,
    check_problem,
    elbo,
    f2sa,
    finite_differences,
    hierarchy_free,
    hoag,
    hypergradient,
    lv_hba,
    maid,
    penalty,
    piecewise,
    quasi_newton,
    ridge_best_response,
    saba,
    scalar,
    self_tuning,
    soba,
    truncated,
    tune,
)  # fmt: skip

A, t = np.eye(3), np.array([1.0, -1.0, 1.0])
Q = QuadraticProblem.random(3, 2, rng=0)
ONE = RidgeProblem(A, t, A, t, penalty="scalar")

CASES = [
    ("target-shape", lambda: RidgeProblem(A, t[:2], A, t), ValueError, "`t`"),
    ("valid-features", lambda: RidgeProblem(A, t, np.eye(4), np.ones(4)), ValueError, "`V`"),
    ("no-samples", lambda: RidgeProblem(np.ones((0, 3)), [], A, t), ValueError, "`A`"),
    ("nan-design", lambda: RidgeProblem(A, [np.nan, 1, 1], A, t), ValueError, "`t`"),
    ("penalty", lambda: RidgeProblem(A, t, A, t, penalty="entry"), ValueError, "`penalty`"),
    ("weights", lambda: RidgeProblem(A, t, A, t, train_weights=[-1, 1, 1]), ValueError, "`train_weights`"),
    ("labels", lambda: LogisticProblem(A, [0, 1, 1], A, t), ValueError, "`t`.*-1 and 1"),
    ("one-class", lambda: LogisticProblem(A, np.ones(3), A, t), ValueError, "`t`.*both classes"),
    ("classes", lambda: MultinomialProblem(A, [0, 2, 2], A, t), ValueError, "`t`"),
    ("unknown-class", lambda: MultinomialProblem(A, [0, 1, 1], A, [0, 1, 2]), ValueError, "`c`"),
    (
        "valid-weights",
        lambda: MultinomialProblem(A, [0, 1, 1], A, [0, 1, 1], valid_weights=np.zeros(3)),
        ValueError,
        "`valid_weights`",
    ),
    ("press-weights", lambda: LeaveOneOutRidgeProblem(A, t, weights=np.zeros(3)), ValueError, "`weights`.*zeros"),
    ("press-targets", lambda: LeaveOneOutRidgeProblem(A, t[:2]), ValueError, "`t`"),
    ("kernel-samples", lambda: KernelRidgeProblem(A[:0], [], A, t), ValueError, "`A`"),
    ("kernel-features", lambda: KernelRidgeProblem(A, t, A[:, :2], t), ValueError, "`V`"),
    ("kernel-targets", lambda: KernelRidgeProblem(A, t, A, [1.0, np.nan, 0.0]), ValueError, "`c`"),
    ("kernel-weights", lambda: KernelRidgeProblem(A, t, A, t, train_weights=[1, 1, -1]), ValueError, "`train_weights`"),
    ("kernel-no-folds", lambda: KernelRidgeFoldsProblem(A, t, []), ValueError, "`folds`"),
    ("kernel-empty-fold", lambda: KernelRidgeFoldsProblem(A, t, [np.arange(2), []]), ValueError, "`folds`.*fold 1"),
    ("kernel-place", lambda: KernelRidgeFoldsProblem(A, t, [np.array([0, 3])]), ValueError, "`folds`.*fold 0"),
    ("kernel-whole-fold", lambda: KernelRidgeFoldsProblem(A, t, [np.arange(3)]), ValueError, "`folds`.*all 3"),
    ("no-folds", lambda: FoldsProblem([]), ValueError, "`folds`"),
    (
        "unequal-folds",
        lambda: FoldsProblem([QuadraticProblem.random(3, 2), QuadraticProblem.random(4, 2)]),
        ValueError,
        "`folds`.*fold 1",
    ),
    ("ridge", lambda: CleaningProblem(A, [0, 1, 1], A, [0, 1, 1], ridge=0.0), ValueError, "`ridge`"),
    (
        "indefinite",
        lambda: QuadraticProblem(-np.eye(2), A[:1, :2], [0, 0], np.eye(2), [[1]], [[0, 0]], [0, 0], [0]),
        ValueError,
        "`H`",
    ),
    ("x-shape", lambda: hypergradient(Q, np.ones(3)), ValueError, "`x`"),
    ("x-nan", lambda: hypergradient(Q, [np.nan, 0.0]), ValueError, "`x`"),
    ("y-shape", lambda: hypergradient(Q, np.ones(2), y=np.ones(2)), ValueError, "`y`"),
    ("mode", lambda: hypergradient(Q, np.ones(2), mode="exact"), ValueError, "`mode`"),
    ("tol", lambda: hypergradient(Q, np.ones(2), tol=0.0), ValueError, "`tol`"),
    ("truncate", lambda: hypergradient(Q, np.ones(2), mode="reverse", steps=5, truncate=6), ValueError, "`truncate`"),
    ("no-oracles", lambda: hypergradient(object(), np.ones(2)), TypeError, "`problem`.*`inner`"),
    ("no-oracles-check", lambda: check_problem(object()), TypeError, "`problem`"),
    ("no-oracles-differences", lambda: finite_differences(object()), TypeError, "`problem`"),
    (
        "direct-needs-matrix",
        lambda: hypergradient(finite_differences(Q), np.ones(2), mode="direct"),
        TypeError,
        "`hessian`",
    ),
]
CASES += [
    ("tune-method", lambda: tune(Q, method="grid"), ValueError, "`method`"),
    ("tune-no-oracles", lambda: tune(object()), TypeError, "`problem`"),
    ("crossed-bounds", lambda: tune(Q, bounds=(1.0, -1.0)), ValueError, "`bounds`"),
    ("bounds-shape", lambda: tune(Q, bounds=3.0), TypeError, "`bounds`"),
    ("scalar-many", lambda: scalar(Q), ValueError, "`problem`.*shape"),
    ("scalar-box", lambda: scalar(ONE, bounds=(-np.inf, 1.0)), ValueError, "`bounds`.*finite"),
    ("scalar-start", lambda: scalar(ONE, [np.nan]), ValueError, "`x0`"),
    ("foreign-result", lambda: scalar(ONE, init=quasi_newton(Q, maxiter=1)), TypeError, "`init`"),
    ("adjoint-mode", lambda: quasi_newton(Q, mode="reverse"), ValueError, "`mode`"),
    ("rank", lambda: LeastSquaresProblem(np.ones((3, 2)), A, t, np.eye(2), np.ones(2)), ValueError, "`A`.*rank"),
    ("rows", lambda: LeastSquaresProblem(A, A[:2], t, A, t), ValueError, "`B`.*shape"),
    ("maid-eps", lambda: maid(Q, eps=0.0), ValueError, "`eps`"),
    ("maid-delta", lambda: maid(Q, delta=1e-17), ValueError, "`delta`"),
    ("maid-eta", lambda: maid(Q, eta=1.0), ValueError, "`eta`"),
    ("maid-inner", lambda: maid(Q, inner="simplex"), ValueError, "`inner`"),
    ("maid-curvature", lambda: maid(RidgeProblem(A, t, A, t, intercept=True)), ValueError, "`problem`.*mu.*hoag"),
    ("maid-constants", lambda: maid(CleaningProblem(A, [0, 1, 1], A, [0, 1, 1])), TypeError, "`constants`"),
]
CASES += [
    ("penalty-sigma", lambda: penalty(Q, sigma=0.0), ValueError, "`sigma`"),
    ("penalty-inner-tol", lambda: penalty(Q, inner_tol=-1.0), ValueError, "`inner_tol`"),
    ("penalty-richardson", lambda: penalty(Q, richardson=2), ValueError, "`richardson`"),
    ("penalty-start", lambda: penalty(Q, [1.0]), ValueError, "`x0`"),
    ("penalty-bounds", lambda: penalty(Q, bounds=(1.0, 0.0)), ValueError, "`bounds`"),
    ("penalty-foreign", lambda: penalty(Q, init=quasi_newton(Q, maxiter=1)), TypeError, "`init`"),
    ("soba-batch", lambda: soba(ONE, batch=0), ValueError, "`batch`"),
    ("soba-step", lambda: soba(ONE, step=-1.0), ValueError, "`step`"),
    ("soba-rng", lambda: soba(ONE, rng="seed"), TypeError, "`rng`"),
    ("soba-foreign", lambda: soba(ONE, init=quasi_newton(Q, maxiter=1)), TypeError, "`init`"),
    ("saba-outer-step", lambda: saba(ONE, outer_step=0.0), ValueError, "`outer_step`"),
    ("saba-tol", lambda: saba(ONE, tol=-1.0), ValueError, "`tol`"),
    ("f2sa-weight", lambda: f2sa(ONE, weight=0.0), ValueError, "`weight`"),
    ("f2sa-growth", lambda: f2sa(ONE, growth=-1.0), ValueError, "`growth`"),
    ("f2sa-steps", lambda: f2sa(ONE, inner_steps=0), ValueError, "`inner_steps`"),
    ("bo-rep-period", lambda: bo_rep(ONE, period=0), ValueError, "`period`"),
    ("bo-rep-beta", lambda: bo_rep(ONE, beta=1.0), ValueError, "`beta`"),
    ("bo-rep-radius", lambda: bo_rep(ONE, radius=-1.0), ValueError, "`radius`"),
    ("bo-rep-steps", lambda: bo_rep(ONE, inner_steps=2.5), TypeError, "`inner_steps`"),
    ("cosh-curvature", lambda: CoshProblem(A, [1.0, 0.0, 1.0]), ValueError, "`h`"),
    ("cosh-noise", lambda: CoshProblem(A, t + 2, inner_noise=A), ValueError, "`inner_noise`.*sum"),
    ("penalty-oracles", lambda: penalty(object()), TypeError, "`problem`"),
]
CASES += [
    ("truncated-steps", lambda: truncated(Q, steps=0), ValueError, "`steps`"),
    ("truncated-few", lambda: truncated(Q, truncate=0), ValueError, "`truncate`"),
    ("truncated-direction", lambda: truncated(Q, direction="up"), ValueError, "`direction`"),
    ("truncated-start", lambda: truncated(Q, start="hot"), ValueError, "`start`"),
    ("truncated-optimizer", lambda: truncated(Q, optimizer="sgd"), ValueError, "`optimizer`"),
    ("truncated-step", lambda: truncated(Q, step=-1.0), ValueError, "`step`"),
    ("truncated-inner-step", lambda: truncated(Q, inner_step=3.0, steps=30, truncate=30), ValueError, "`step`|NaN"),
]
IMAGES = np.ones((1, 3, 3))
CASES += [
    ("one-image", lambda: FieldsOfExpertsProblem(IMAGES[0], IMAGES[0]), ValueError, "`noisy`.*images, height"),
    ("no-image", lambda: TotalVariationProblem(IMAGES[:0], IMAGES[:0]), ValueError, "`noisy`"),
    ("colours", lambda: TotalVariationProblem(IMAGES[..., None], IMAGES[..., None]), ValueError, "`noisy`"),
    ("pairs", lambda: TotalVariationProblem(IMAGES, IMAGES[:, 1:]), ValueError, "`clean`"),
    ("nan-image", lambda: TotalVariationProblem(np.nan * IMAGES, IMAGES), ValueError, "`noisy`"),
    ("smoothing", lambda: TotalVariationProblem(IMAGES, IMAGES, smoothing=0.0), ValueError, "`smoothing`"),
    ("large-filters", lambda: FieldsOfExpertsProblem(IMAGES, IMAGES, 4), ValueError, "`filters`.*fit"),
    ("small-filters", lambda: FieldsOfExpertsProblem(IMAGES, IMAGES, 1), ValueError, "`filters`"),
    ("flat-filters", lambda: FieldsOfExpertsProblem(IMAGES, IMAGES, np.eye(2)), ValueError, "`filters`"),
    ("learn", lambda: FieldsOfExpertsProblem(IMAGES, IMAGES, learn_filters=2), ValueError, "`learn_filters`"),
]


class FirstOrder:
    """Gradients only."""

    start, inner, outer = Q.start, Q.inner, Q.outer


class Unbounded(FirstOrder):
    """Products, but no curvatures."""

    at, hvp_outer, cross_outer = Q.at, Q.hvp_outer, Q.cross_outer


CASES += [
    ("target-nan", lambda: CounterexampleProblem([np.nan]), ValueError, "`target`"),
    ("target-matrix", lambda: CounterexampleProblem(A), ValueError, "`target`"),
    ("bda-products", lambda: bda(FirstOrder()), TypeError, "`hvp`.*bda.*finite_differences"),
    ("bda-curvature", lambda: bda(Unbounded()), TypeError, "`lipschitz`.*`step`"),
    ("bda-alpha", lambda: bda(Q, alpha=1.0), ValueError, "`alpha`"),
    ("bda-steps", lambda: bda(Q, steps=0), ValueError, "`steps`"),
    ("bda-step", lambda: bda(Q, step=-1.0), ValueError, "`step`"),
    ("bda-init", lambda: bda(Q, init=np.ones(2)), TypeError, "`init`.*`x0`"),
    ("bamm-products", lambda: bamm(FirstOrder()), TypeError, "`hvp`.*bamm"),
    ("bamm-curvature", lambda: bamm(Unbounded()), TypeError, "`lipschitz`.*`step`"),
    ("bamm-average", lambda: bamm(Q, average=1.0), ValueError, "`average`"),
    ("bamm-schedule", lambda: bamm(Q, schedule="s4"), ValueError, "`schedule`"),
    ("bamm-adjoint", lambda: bamm(Q, adjoint="newton"), ValueError, "`adjoint`"),
    ("bamm-start", lambda: bamm(Q, [np.inf, 0.0]), ValueError, "`x0`"),
]
LASSO = LassoProblem(A, t, A, t)
CASES += [
    ("lasso-features", lambda: LassoProblem(A, t, np.eye(4), np.ones(4)), ValueError, "`V`.*3"),
    ("lasso-penalty", lambda: LassoProblem(A, t, A, t, penalty="entry"), ValueError, "`penalty`"),
    ("lasso-weights", lambda: LassoProblem(A, t, A, t, valid_weights=np.zeros(3)), ValueError, "`valid_weights`"),
    ("lasso-folds", lambda: LassoProblem.cross(A, t, folds=4), ValueError, "`folds`"),
    ("lasso-empty-fold", lambda: LassoProblem.cross(A, t, folds=[([0, 1], [])]), ValueError, "`folds`"),
    ("lasso-operator", lambda: LassoProblem(lambda v: v, t, A, t), TypeError, "`A`"),
    ("piecewise-smooth", lambda: piecewise(ONE), TypeError, "`problem`.*`piece`"),
    (
        "piecewise-many",
        lambda: piecewise(LassoProblem(A, t, A, t, penalty="feature")),
        ValueError,
        "`problem`.*shape",
    ),
    ("piecewise-box", lambda: piecewise(LASSO, bounds=(-np.inf, 0.0)), ValueError, "`bounds`.*finite"),
    ("piecewise-start", lambda: piecewise(LASSO, [np.nan]), ValueError, "`x0`"),
    ("active-set-smooth", lambda: hypergradient(ONE, [0.0], mode="active_set"), TypeError, "`solve_inner`"),
]

E = EquilibriumProblem.random(3, 2, rng=0)
CASES += [
    ("start-word", lambda: quasi_newton(Q, start="hot"), ValueError, "`start`"),
    (
        "not-monotone",
        lambda: EquilibriumProblem(-np.eye(2), np.ones((2, 1)), np.zeros(2), np.zeros(2)),
        ValueError,
        "`Q`.*definite symmetric part",
    ),
    (
        "equilibrium-step",
        lambda: EquilibriumProblem(np.eye(2), np.ones((2, 1)), np.zeros(2), np.zeros(2), step=3.0),
        ValueError,
        "`step`",
    ),
    (
        "equilibrium-box",
        lambda: EquilibriumProblem(np.eye(2), np.ones((2, 1)), np.zeros(2), np.zeros(2), low=1.0, high=0.0),
        ValueError,
        "`low`",
    ),
    ("slope-of-price", lambda: StackelbergProblem(b=0.0), ValueError, "`b`"),
    ("mode-needs-symmetry", lambda: hypergradient(E, np.ones(2), mode="cg"), ValueError, "`mode`.*gmres"),
    ("tuning-needs-symmetry", lambda: quasi_newton(E, mode="minres"), ValueError, "`mode`.*gmres"),
    ("foreseen-steps", lambda: hierarchy_free(E, steps=-1), ValueError, "`steps`"),
    ("foreseen-start", lambda: hierarchy_free(E, init=np.ones(2)), TypeError, "`init`"),
    ("differences-need-symmetry", lambda: finite_differences(E), ValueError, "`problem`.*symmetry"),
]

SUM = SumConstraintProblem(np.ones(3))

CASES += [
    ("sum-nan", lambda: SumConstraintProblem([np.nan]), ValueError, "`target`"),
    ("sum-empty", lambda: SumConstraintProblem([]), ValueError, "`target`"),
    ("affine-shapes", lambda: AffineConstraintProblem(A, A[:2], A, t, t), ValueError, "`H`"),
    ("affine-outer", lambda: AffineConstraintProblem(A, A, np.eye(2), t, t), ValueError, "`B`"),
    ("svm-one-class", lambda: SVMProblem(A, np.ones(3), A, t), ValueError, "`t`.*both classes"),
    ("svm-labels", lambda: SVMProblem(A, t, A, [0, 1, 1]), ValueError, "`c`.*-1 and 1"),
    ("svm-empty", lambda: SVMProblem(np.ones((0, 3)), [], A, t), ValueError, "`A`"),
    ("svm-features", lambda: SVMProblem(A, t, np.ones((3, 2)), t), ValueError, "`V`"),
    ("hba-unconstrained", lambda: lv_hba(Q), TypeError, "`constraints`"),
    ("hba-eta", lambda: lv_hba(SUM, eta=5.0), ValueError, "`eta`.*at most"),
    ("hba-alpha", lambda: lv_hba(SUM, eta=0.1, alpha=0.2), ValueError, "`alpha`.*at most 0.1"),
    ("hba-power", lambda: lv_hba(SUM, power=0.5), ValueError, "`power`"),
    ("hba-gamma", lambda: lv_hba(SUM, gamma=0.0), ValueError, "`gamma`"),
    ("hba-init", lambda: lv_hba(SUM, init=np.ones(3)), TypeError, "`init`"),
    ("constraints-gradient", lambda: hypergradient(SUM, np.ones(3)), TypeError, "`constraints`.*lv_hba"),
    ("constraints-hoag", lambda: hoag(SUM), TypeError, "`problem`.*lv_hba|`cross_vjp`"),
]

R = RidgeProblem(A, t, A, t)
CASES += [
    ("elbo-no-likelihood", lambda: elbo(Q), TypeError, "`problem`.*`likelihood`"),
    ("elbo-samples", lambda: elbo(LogisticProblem(A, t, A, t), samples=1), ValueError, "`samples`"),
    ("elbo-intercept", lambda: elbo(RidgeProblem(A, t, A, t, intercept=True)), ValueError, "`problem`.*intercept"),
    ("elbo-emphasis", lambda: elbo(R, emphasis=0.0), ValueError, "`emphasis`"),
    ("elbo-blocks", lambda: elbo(R, blocks=[0, 1]), ValueError, "`blocks`"),
    ("elbo-blocks-floats", lambda: elbo(R, blocks=[0.5, 1.0, 2.0]), ValueError, "`blocks`"),
    ("elbo-init", lambda: elbo(R, init=np.ones(3)), TypeError, "`init`"),
]

CASES += [
    ("self-tuning-scale", lambda: self_tuning(ONE, scale=5.0), ValueError, "`scale`"),
    ("self-tuning-samples", lambda: self_tuning(ONE, samples=1), ValueError, "`samples`"),
    ("self-tuning-step", lambda: self_tuning(ONE, step=0.0), ValueError, "`step`"),
    ("self-tuning-equilibrium", lambda: self_tuning(E), ValueError, "`problem`.*gmres"),
    ("self-tuning-lipschitz", lambda: self_tuning(ShallowNetProblem.random()), TypeError, "`problem`.*`lipschitz`"),
    ("self-tuning-init", lambda: self_tuning(ONE, init=np.ones(1)), TypeError, "`init`"),
    ("gates", lambda: ridge_best_response(Q), TypeError, "`problem`.*`regression`"),
    ("net-empty", lambda: ShallowNetProblem(np.ones((0, 2)), [], A[:, :2], t), ValueError, "`A`"),
    ("net-features", lambda: ShallowNetProblem(A, t, A[:, :2], t), ValueError, "`V`"),
    ("net-hidden", lambda: ShallowNetProblem(A, t, A, t, hidden=0), ValueError, "`hidden`"),
]


class Own:
    """A problem whose start is as asked."""

    inner, outer, at = Q.inner, Q.outer, Q.at

    def __init__(self, start):
        self.start = lambda: start


HOLES = np.where(A == 1.0, np.nan, A)
CASES += [
    (f"{kind.__name__}-{name}", lambda kind=kind, args=args, more=more: kind(*args, **more), error, pattern)
    for kind, u in ((RidgeProblem, t), (LogisticProblem, t), (MultinomialProblem, [0, 1, 1]), (LassoProblem, t))
    for name, args, more, error, pattern in [
        ("nan-entry", (HOLES, u, A, u), {}, ValueError, "`A`"),
        ("infinite-entry", (A, u, np.where(A == 1.0, np.inf, A), u), {}, ValueError, "`V`"),
        ("intercept-text", (A, u, A, u), {"intercept": "no"}, ValueError, "`intercept`.*True, False"),
    ]
]
CASES += [
    ("sparse-nan", lambda: RidgeProblem(sp.csr_array(HOLES), t, A, t), ValueError, "`A`.*NaN"),
    ("start-nothing", lambda: tune(Own(None)), TypeError, "`problem`.*NoneType from `start`.*pair"),
    ("start-lists", lambda: hoag(Own(([0.0], [0.0]))), TypeError, "`problem`.*list from `start` as x"),
    ("start-integers", lambda: hoag(Own((np.zeros(2, int), np.zeros(3)))), TypeError, "`problem`.*int64.*floating"),
    ("start-one", lambda: hypergradient(Own(np.zeros(3)), np.zeros(2)), TypeError, "`problem`.*ndarray from `start`"),
    ("check-x", lambda: check_problem(Q, "abc"), TypeError, "`x`"),
    ("check-y", lambda: check_problem(Q, y=np.ones(7)), ValueError, r"`y`.*\(7,\).*\(3,\)"),
    ("check-rtol", lambda: check_problem(Q, rtol="abc"), TypeError, "`rtol`"),
    ("bounds-length", lambda: quasi_newton(Q, bounds=(np.zeros(3), 1.0)), ValueError, r"`bounds`.*\(3,\).*\(2,\)"),
    ("refit-text", lambda: hoag(Q, refit="yes"), ValueError, "`refit`"),
    ("certified-text", lambda: maid(Q, certified="yes"), ValueError, "`certified`"),
    ("recompute-text", lambda: hypergradient(Q, np.ones(2), recompute="yes"), ValueError, "`recompute`"),
    ("hba-eta-text", lambda: lv_hba(SumConstraintProblem(t), eta="0.1"), TypeError, "`eta`"),
    ("folds-number", lambda: FoldsProblem(3), TypeError, "`folds`.*3"),
    ("folds-text", lambda: FoldsProblem(["abc"]), TypeError, "`problem`.*`start`"),
    ("kernel-folds-number", lambda: KernelRidgeFoldsProblem(A, t, 3.0), TypeError, "`folds`"),
    ("cross-folds-number", lambda: LassoProblem.cross(A, t, folds=2.5), TypeError, "`folds`.*2.5"),
    ("cross-folds-place", lambda: LassoProblem.cross(A, t, folds=[([0, 1], [3])]), ValueError, "`folds`.*0 to 2"),
    ("cross-folds-floats", lambda: LassoProblem.cross(A, t, folds=[([0.5], [1])]), ValueError, "`folds`.*integers"),
    ("market-like", lambda: StackelbergProblem(like="numpy"), TypeError, "`like`"),
    ("schedule-nothing", lambda: soba(ONE, step=lambda k: None), TypeError, "`step`.*None.*schedule"),
    ("option", lambda: tune(Q, max_iter=3), TypeError, "`max_iter`.*tune.*`maxiter`"),
]

CASES += [
    ("huge-targets", lambda: RidgeProblem(A, 1e150 * t, A, t), ValueError, "`t`.*1e.150.*units"),
    ("huge-design", lambda: RidgeProblem(A, t, 1e150 * A, t), ValueError, "`V`.*1e.150"),
    ("tiny-design", lambda: LogisticProblem(1e-150 * A, t, A, t), ValueError, "`A`.*1e-150"),
    ("huge-kernel-targets", lambda: KernelRidgeProblem(A, t, A, 1e150 * t), ValueError, "`c`.*1e.150"),
]

CASES += [
    ("kernel-no-targets", lambda: KernelRidgeProblem(A, None, A, t), TypeError, "`t`"),
    ("kernel-no-held-targets", lambda: KernelRidgeProblem(A, t, A, None), TypeError, "`c`"),
]


class Listed(Own):
    """Gradients as lists."""

    def inner(self, x, y):
        value, *gradients = Q.inner(x, y)
        return value, *(u.tolist() for u in gradients)


CASES += [
    (
        f"list-gradients-{f.__name__}",
        lambda f=f: f(Listed(Q.start())),
        TypeError,
        "`problem`.*list from `inner: grad_x`",
    )
    for f in (hoag, quasi_newton, penalty)
]
CASES += [
    ("bounds-pairs", lambda: tune(Q, bounds=[(0, 1)] * 3), TypeError, r"`bounds`.*zip\(\*pairs\)"),
    ("bounds-none", lambda: tune(Q, bounds=(None, 1.0)), TypeError, "`bounds`.*infinite"),
    (
        "mixed-designs",
        lambda: RidgeProblem(A, t, strict.asarray(A), t),
        TypeError,
        "`A` from numpy, `V` from array_api",
    ),
]
