"""Problems to try things on: seeded generators (`make_*`) and real data (`load_*`).

Everything comes back as host NumPy arrays; `optlib.to_device` moves it elsewhere. Loaders need the extra
``optlib[experiments]`` and never touch the network unless a file is neither in the folder that the environment
variable ``OPTLIB_DATA`` names nor in the cache.
"""

from optlib.datasets.load import (
    Cells,
    DatasetNotFoundError,
    Digits,
    ExchangeRates,
    Experts,
    Garments,
    Ratings,
    Rentals,
    Source,
    fetch,
    load_approval_experts,
    load_bike_sharing_hour,
    load_cells,
    load_digits,
    load_fx_ecb,
    load_garments,
    load_mnist,
    load_photographs,
    load_ratings,
)
from optlib.datasets.make import TRANSPORT_KINDS, TransportProblem, make_low_rank, make_transport

__all__ = [
    "TRANSPORT_KINDS",
    "Cells",
    "DatasetNotFoundError",
    "Digits",
    "ExchangeRates",
    "Experts",
    "Garments",
    "Ratings",
    "Rentals",
    "Source",
    "TransportProblem",
    "fetch",
    "load_approval_experts",
    "load_bike_sharing_hour",
    "load_cells",
    "load_digits",
    "load_fx_ecb",
    "load_garments",
    "load_mnist",
    "load_photographs",
    "load_ratings",
    "make_low_rank",
    "make_transport",
]
