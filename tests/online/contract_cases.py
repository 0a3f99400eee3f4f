"""Problems for the contract test: they need more iterations than the test runs."""

from optlib.online import AdaHedge, Hedge
from tests.online import saddle_problems as saddle

CASES = {
    "online.mirror_prox": lambda backend: ((saddle.game(backend),), {}),
    "online.optimistic_gradient": lambda backend: ((saddle.game(backend),), {}),
    "online.extragradient": lambda backend: ((saddle.affine(backend),), {}),
    "online.proximal_point": lambda backend: ((saddle.affine(backend),), {}),
    "online.halpern": lambda backend: ((saddle.affine(backend),), {}),
    "online.chambolle_pock": lambda backend: ((saddle.euclidean_game(backend),), {}),
    "online.self_play": lambda backend: ((saddle.game(backend), AdaHedge(5), Hedge(4)), {}),
    "online.variance_reduced_halpern": lambda backend: ((saddle.finite_sum(backend),), {"rng": 0}),
}
