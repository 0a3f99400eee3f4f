"""Small problems of every class, on any backend."""

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
    LeastSquaresProblem,
    LeaveOneOutRidgeProblem,
    LogisticProblem,
    MultinomialProblem,
    QuadraticProblem,
    RidgeProblem,
    StackelbergProblem,
    SumConstraintProblem,
    SVMProblem,
    TotalVariationProblem,
)  # fmt: skip

MAKERS = {
    "quadratic": lambda rng=0, like=None: QuadraticProblem.random(5, 3, rng=rng, like=like),
    "least squares": lambda rng=0, like=None: LeastSquaresProblem.random(20, 4, 3, rng=rng, like=like),
    "ridge": lambda rng=0, like=None: RidgeProblem.random(rng=rng, like=like),
    "ridge scalar": lambda rng=0, like=None: RidgeProblem.random(rng=rng, like=like, penalty="scalar"),
    "ridge intercept": lambda rng=0, like=None: RidgeProblem.random(rng=rng, like=like, intercept=True),
    "logistic": lambda rng=0, like=None: LogisticProblem.random(rng=rng, like=like),
    "logistic intercept": lambda rng=0, like=None: LogisticProblem.random(
        rng=rng, like=like, penalty="scalar", intercept=True
    ),
    "multinomial": lambda rng=0, like=None: MultinomialProblem.random(rng=rng, like=like),
    "multinomial entry": lambda rng=0, like=None: MultinomialProblem.random(
        rng=rng, like=like, penalty="entry", intercept=True
    ),
    "multinomial scalar": lambda rng=0, like=None: MultinomialProblem.random(rng=rng, like=like, penalty="scalar"),
    "folds": lambda rng=0, like=None: FoldsProblem.random(of=LogisticProblem, rng=rng, like=like),
    "folds multinomial": lambda rng=0, like=None: FoldsProblem.random(
        of=MultinomialProblem, rng=rng, like=like, penalty="scalar", intercept=True, folds=2
    ),
    "kernel ridge": lambda rng=0, like=None: KernelRidgeProblem.random(rng=rng, like=like),
    "kernel ridge folds": lambda rng=0, like=None: KernelRidgeFoldsProblem.random(rng=rng, like=like),
    "leave-one-out ridge": lambda rng=0, like=None: LeaveOneOutRidgeProblem.random(rng=rng, like=like, intercept=True),
    "cleaning": lambda rng=0, like=None: CleaningProblem.random(rng=rng, like=like, ridge=0.05),
    "cosh": lambda rng=0, like=None: CoshProblem.random(rng=rng, like=like),
    "total variation": lambda rng=0, like=None: TotalVariationProblem.random(rng=rng, like=like, noise=1.0),
    "total variation signals": lambda rng=0, like=None: TotalVariationProblem.random(
        3, (9,), rng=rng, like=like, noise=1.0, smoothing=0.1
    ),
    "experts": lambda rng=0, like=None: FieldsOfExpertsProblem.random(rng=rng, like=like, noise=1.0),
    "experts weights": lambda rng=0, like=None: FieldsOfExpertsProblem.random(
        rng=rng, like=like, noise=1.0, smoothing=0.1, learn_filters=False
    ),
}

# whose inner problems have many solutions, constraints or no objective: for the tests of oracles only
OTHERS = {
    "counterexample": lambda rng=0, like=None: CounterexampleProblem.random(rng=rng, like=like),
    "equilibrium": lambda rng=0, like=None: EquilibriumProblem.random(4, 2, rng=rng, like=like),
    "equilibrium box": lambda rng=0, like=None: EquilibriumProblem.random(4, 2, rng=rng, like=like, low=-0.3, high=0.3),
    "stackelberg": lambda rng=0, like=None: StackelbergProblem.random(rng=rng, like=like),
    "sum constraint": lambda rng=0, like=None: SumConstraintProblem.random(rng=rng, like=like),
    "affine constraint": lambda rng=0, like=None: AffineConstraintProblem.random(rng=rng, like=like),
    "svm": lambda rng=0, like=None: SVMProblem.random(rng=rng, like=like),
}
