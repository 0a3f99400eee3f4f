"""What an environment reveals after a round, and nothing more."""

from typing import Any, NamedTuple


class Feedback(NamedTuple):
    """What a learner is told after a round: give the fields that are revealed, leave the others out.

    Attributes
    ----------
    gradient : array, shape (n,) or (learners, n), optional
        A (sub)gradient of the loss at the decision; for a linear loss, its coefficients.
    losses : array, shape (n,) or (learners, n), optional
        The losses of all experts or arms, another word for the gradient of a linear loss.
    value : float or array, shape (learners,), optional
        The loss of the decision; for bandits it is all that there is.
    arm : int or array, shape (learners,), optional
        The arm that the value belongs to, to be checked against the decision.
    features : array, shape (n,) or (learners, n), optional
        The features of an example of regression or classification.
    target : float or array, shape (learners,), optional
        What was to be predicted.
    constraint : float or array, shape (learners,), optional
        Value at the decision of a constraint, which should be at most 0.
    constraint_gradient : array, shape (n,) or (learners, n), optional
        A (sub)gradient of the constraint at the decision.
    """

    gradient: Any = None
    losses: Any = None
    value: Any = None
    arm: Any = None
    features: Any = None
    target: Any = None
    constraint: Any = None
    constraint_gradient: Any = None
