"""Problems for the contract test: they need more iterations than the test runs."""

import numpy as np

from optlib.geometry import Ball, Simplex
from optlib.online import AdaHedge, HalfSpaces, Hedge
from tests.online import saddle_problems as saddle

TABLE = np.abs(np.random.default_rng(0).standard_normal((8, 8)))
TABLE, SLOW = TABLE + TABLE.T, {"sweeps": 1}

CASES = {
    "online.mirror_prox": lambda backend: ((saddle.game(backend),), {}),
    "online.optimistic_gradient": lambda backend: ((saddle.game(backend),), {}),
    "online.extragradient": lambda backend: ((saddle.affine(backend),), {}),
    "online.proximal_point": lambda backend: ((saddle.affine(backend),), {}),
    "online.halpern": lambda backend: ((saddle.affine(backend),), {}),
    "online.alpd": lambda backend: ((saddle.smooth(backend),), {}),
    "online.chambolle_pock": lambda backend: ((saddle.euclidean_game(backend),), {}),
    "online.self_play": lambda backend: ((saddle.game(backend), AdaHedge(5), Hedge(4)), {}),
    "online.project_and_forget": lambda backend: ((backend.asarray(TABLE[0]), HalfSpaces(TABLE, np.ones(8))), SLOW),
    "online.metric_nearness": lambda backend: ((backend.asarray(TABLE),), SLOW),
    "online.correlation_clustering": lambda backend: ((backend.asarray(TABLE - 0.5),), SLOW),
    "online.dykstra": lambda backend: ((backend.asarray(TABLE[0]), [Simplex(8), Ball(8, 0.4)]), {}),
    "online.variance_reduced_halpern": lambda backend: ((saddle.finite_sum(backend),), {"rng": 0}),
}
