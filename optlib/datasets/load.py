"""Real data: looked up in a local folder, then in the cache, then downloaded; always checked against a checksum."""

import hashlib
import os
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np


class DatasetNotFoundError(FileNotFoundError):
    """A data file is not on this machine and has no public address from which it could be fetched."""


class Source(NamedTuple):
    """Where one data file comes from.

    Attributes
    ----------
    file : str
        File name, in ``OPTLIB_DATA`` and in the cache.
    sha256 : str
        Checksum of the file.
    origin : str
        Who made the data, under which licence, and how to obtain or derive the file.
    url : str, optional
        Public address of exactly this file; None where the file was derived and is published nowhere.
    """

    file: str
    sha256: str
    origin: str
    url: str | None = None


class Digits(NamedTuple):
    """Handwritten digits.

    Attributes
    ----------
    images : ndarray, shape (1797, 8, 8) or (6000, 28, 28)
        Levels in [0, 1].
    labels : ndarray, shape (1797,) or (6000,)
        The digits 0 to 9.
    """

    images: np.ndarray
    labels: np.ndarray


class Cells(NamedTuple):
    """Single cells of human blood.

    Attributes
    ----------
    pca : ndarray, shape (700, 50)
        Principal components of the expression of 765 genes.
    umap : ndarray, shape (700, 2)
        Positions on a map of the plane.
    cell_type : ndarray of int, shape (700,)
        Type of each cell.
    names : list of str, length 10
        Names of the types.
    """

    pca: np.ndarray
    umap: np.ndarray
    cell_type: np.ndarray
    names: list[str]


_CELLS_ORIGIN = (
    "10x Genomics, 'Fresh 68k PBMCs (Donor A)', CC BY 4.0; reduced to 700 cells by scanpy (BSD-3-Clause), as "
    "scanpy.datasets.pbmc68k_reduced"
)

#: The cells as scanpy publishes them, and the same arrays without HDF5.
CELLS = Source(
    "10x_pbmc68k_reduced.h5ad",
    "e71d41e737c941559b7c57c9243bdb3d2c889c2adfdf00e3422ac6b46783676f",
    _CELLS_ORIGIN,
    "https://raw.githubusercontent.com/scverse/scanpy/1.11.5/src/scanpy/datasets/10x_pbmc68k_reduced.h5ad",
)
CELLS_ARRAYS = Source(
    "pbmc68k_reduced.npz",
    "2bf7174d8770ebaa43341c64430760c17649e802128c56511bd1481f2a152ceb",
    _CELLS_ORIGIN,
)


class ExchangeRates(NamedTuple):
    """Reference exchange rates of the euro.

    Attributes
    ----------
    relatives : ndarray, shape (7125, 18)
        Price relatives, in euros: what a euro held in each currency for a day becomes. Interest is not included.
    names : ndarray of str, shape (18,)
        Codes of the currencies; the first is EUR.
    dates : ndarray of datetime64, shape (7125,)
        The day at whose end the relative is known.
    """

    relatives: np.ndarray
    names: np.ndarray
    dates: np.ndarray


class Experts(NamedTuple):
    """Predictions of experts, and what came.

    Attributes
    ----------
    predictions : ndarray, shape (1001, 5)
        Estimates of the experts, in per cent.
    target : ndarray, shape (1001,)
        The poll average.
    names : ndarray of str, shape (5,)
        The experts.
    """

    predictions: np.ndarray
    target: np.ndarray
    names: np.ndarray


class Rentals(NamedTuple):
    """Hourly bike rentals, in the order of time.

    Attributes
    ----------
    features : ndarray, shape (17379, 12)
        Calendar and weather.
    rentals : ndarray, shape (17379,)
        Rentals in the hour.
    names : ndarray of str, shape (12,)
        Names of the features.
    """

    features: np.ndarray
    rentals: np.ndarray
    names: np.ndarray


_FX_ECB = Source(
    "fx_ecb.npz",
    "1ad278715e0769ab41b0aa1d7ac544e66dcb0e1d1707fb42a447911bb635f1af",
    "European Central Bank, euro foreign exchange reference rates from 1999-01-04 to 2026-10-30 of the 17 currencies "
    "quoted on every day (free re-use with the source named); arrays `rate`, `dates`, `currency`.",
)
_APPROVAL = Source(
    "approval_experts.npz",
    "3714487f3fd02054e0c90038bfed71137b223804d212a1f57bb88c4a4977a9c4",
    "FiveThirtyEight, CC BY 4.0, the file `trump_approval.csv.gz` of the package river (BSD-3-Clause); arrays "
    "`experts`, `target`, `expert_names`.",
)
_BIKES = Source(
    "bike_sharing_hour.npz",
    "1230421ab18eb71d248f1d4664cbdc802cd42666223a2f42ebc371eb57bf44e4",
    "H. Fanaee-T, Bike Sharing, UCI Machine Learning Repository, data set 275, CC BY 4.0, the file `hour.csv`; arrays "
    "`X`, `cnt`, `feature_names`.",
)
_MNIST = Source(
    "mnist_6k.npz",
    "34f08e2278d88734eecf2018ab59169b7e260c38b5d78b9767383151f991dab0",
    "Y. LeCun, C. Cortes, C. Burges, MNIST, derived from NIST, CC BY-SA 3.0: 6000 of the 10 000 test images; arrays "
    "`X_train`, `y_train`, `X_test`, `y_test`.",
)


class Ratings(NamedTuple):
    """Ratings of films by users.

    Attributes
    ----------
    user, item : ndarray, shape (m,)
        Numbers of user and film of each rating, from 0; pairs are different, and sorted by user.
    rating : ndarray, shape (m,)
        Stars, 0 to 10.
    timestamp : ndarray, shape (m,)
        Seconds since 1970.
    imdb_id : ndarray, shape (films,)
        Number of each film in the Internet Movie Database.
    """

    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    timestamp: np.ndarray
    imdb_id: np.ndarray


def fetch(source: Source) -> Path:
    """Path of a data file: from the folder ``OPTLIB_DATA``, else from the cache, else downloaded into the cache.

    The cache is pooch's folder for this library; another one can be named by ``OPTLIB_CACHE``.

    Parameters
    ----------
    source : Source
        The file, its checksum and where it comes from.

    Returns
    -------
    pathlib.Path
        The file, with the right checksum.

    Raises
    ------
    DatasetNotFoundError
        If it is in neither place and has no public address.
    ValueError
        If the file in ``OPTLIB_DATA`` or the downloaded file has another checksum.
    ImportError
        If a download is needed and pooch is not installed.
    """
    folder = os.environ.get("OPTLIB_DATA")
    if folder and (path := Path(folder) / source.file).is_file():
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != source.sha256:
            raise ValueError(
                f"`OPTLIB_DATA`: {source.file} has sha256 {found}; expected {source.sha256}. "
                "Fix: replace the file by an undamaged copy, or unset OPTLIB_DATA."
            )
        return path
    if source.url is None:
        raise DatasetNotFoundError(
            f"{source.file} was not found (OPTLIB_DATA is {folder or 'not set'}) and has no public address. "
            f"Fix: put the file into a folder and name that folder in OPTLIB_DATA. Origin: {source.origin}"
        )
    pooch = _need("pooch")
    cache = os.environ.get("OPTLIB_CACHE") or pooch.os_cache("optlib")
    return Path(pooch.retrieve(source.url, known_hash=f"sha256:{source.sha256}", fname=source.file, path=cache))


def load_photographs() -> dict[str, np.ndarray]:
    """The two photographs bundled with scikit-learn.

    Returns
    -------
    dict
        ``"china"`` and ``"flower"``: arrays of shape (427, 640, 3), sRGB levels in [0, 1]. Licence of both: CC
        BY 2.0; china by danielbuechele, flower by vultilion (flickr.com).

    Raises
    ------
    ImportError
        If scikit-learn or Pillow is not installed.
    """
    sample = _need("sklearn.datasets").load_sample_images()
    return {Path(name).stem: image / 255.0 for name, image in zip(sample.filenames, sample.images, strict=True)}


def load_digits() -> Digits:
    """The 1797 handwritten digits bundled with scikit-learn (UCI "Optical Recognition of Handwritten Digits").

    Returns
    -------
    Digits
        Images and labels.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    """
    data = _need("sklearn.datasets").load_digits()
    return Digits(data.images / 16.0, data.target)


def load_cells() -> Cells:
    """The 700 blood cells ``pbmc68k_reduced`` (10x Genomics, CC BY 4.0; reduced and published by scanpy).

    A file ``pbmc68k_reduced.npz`` with the arrays ``pca``, ``umap``, ``cell_type`` and ``cell_type_names`` in the
    folder ``OPTLIB_DATA`` is read as it is; otherwise scanpy's own file is fetched.

    Returns
    -------
    Cells
        Principal components, map and types.

    Raises
    ------
    ImportError
        If a download is needed and pooch is not installed, or scanpy's file has to be read and h5py is not.
    """
    try:
        with np.load(fetch(CELLS_ARRAYS)) as arrays:
            pca, umap, cell_type, names = (arrays[k] for k in ("pca", "umap", "cell_type", "cell_type_names"))
    except DatasetNotFoundError:
        path = fetch(CELLS)
        with _need("h5py").File(path) as file:
            pca, umap = file["obsm"]["X_pca"], file["obsm"]["X_umap"]
            cell_type = file["obs"]["bulk_labels"]
            names = [name.decode() for name in file["uns"]["bulk_labels_categories"][:]]
    pca, umap = (np.asarray(np.asarray(u, np.float32), np.float64) for u in (pca, umap))
    return Cells(pca, umap, np.asarray(cell_type, np.int64), [str(name) for name in names])


def load_fx_ecb() -> ExchangeRates:
    """Daily price relatives of 18 currencies, 1999 to 2026, from the reference rates of the European Central Bank.

    Returns
    -------
    ExchangeRates
        Price relatives, names, dates.

    Raises
    ------
    DatasetNotFoundError
        If the file is not in the folder ``OPTLIB_DATA``.
    """
    with np.load(fetch(_FX_ECB)) as data:
        rate, days, names = data["rate"], data["dates"], data["currency"]
    relatives = np.concatenate([np.ones((len(rate) - 1, 1)), rate[:-1] / rate[1:]], axis=1)
    return ExchangeRates(relatives, np.concatenate([["EUR"], names]), days[1:].astype("datetime64[D]"))


def load_approval_experts() -> Experts:
    """Five pollsters as experts for a poll average: 1001 days of presidential approval in the USA.

    Returns
    -------
    Experts
        Predictions, targets, names.

    Raises
    ------
    DatasetNotFoundError
        If the file is not in the folder ``OPTLIB_DATA``.
    """
    with np.load(fetch(_APPROVAL)) as data:
        return Experts(data["experts"], data["target"], data["expert_names"])


def load_mnist() -> Digits:
    """6000 handwritten digits of the MNIST test set: a sample for examples, not for comparisons with published results.

    Returns
    -------
    Digits
        Images of shape (28, 28) and labels.

    Raises
    ------
    DatasetNotFoundError
        If the file is not in the folder ``OPTLIB_DATA``.
    """
    with np.load(fetch(_MNIST)) as data:
        images, labels = (np.concatenate([data[f"{u}_train"], data[f"{u}_test"]]) for u in "Xy")
    return Digits(images / 255.0, labels.astype(np.int64))


def load_bike_sharing_hour() -> Rentals:
    """Bike rentals of each hour of two years in Washington D.C., with calendar and weather.

    Returns
    -------
    Rentals
        Features, rentals, names.

    Raises
    ------
    DatasetNotFoundError
        If the file is not in the folder ``OPTLIB_DATA``.
    """
    with np.load(fetch(_BIKES)) as data:
        return Rentals(data["X"].astype(np.float64), data["cnt"].astype(np.float64), data["feature_names"])


class Garments(NamedTuple):
    """Pictures of clothes.

    Attributes
    ----------
    images : ndarray, shape (900, 28, 28)
        Levels in [0, 1].
    labels : ndarray, shape (900,)
        Kind, 0 to 9: T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot.
    """

    images: np.ndarray
    labels: np.ndarray


_FASHION_ORIGIN = "Fashion-MNIST, Zalando SE, MIT licence (github.com/zalandoresearch/fashion-mnist), its sprite image"
_SPRITE = Source(
    "fashion-mnist-sprite.png",
    "a7de0a151f8c68e6e96f157a018ac290d1f6b0e7845892c3d7d85cb64961c3cb",
    _FASHION_ORIGIN,
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/b2617bb6d3ffa2e429640350f613e3291e10b141"
    "/doc/img/fashion-mnist-sprite.png",
)
_TILES = Source(
    "fashion_mnist_900.npz",
    "6ca5da26448c98c75cc048f0650bf1dad4e6b200ad0171b5f9fd04ef955ab730",
    f"the arrays `X` and `y` cut out of: {_FASHION_ORIGIN}",
)


def load_garments() -> Garments:
    """The 900 pictures, 90 of each kind, of the overview of Fashion-MNIST (Zalando SE, MIT licence).

    Read from ``fashion_mnist_900.npz`` in the folder ``OPTLIB_DATA`` if it is there, else from the project's sprite
    image there, in the cache, or downloaded.

    Returns
    -------
    Garments
        Pictures and labels.

    Raises
    ------
    ValueError
        If a file is damaged.
    ImportError
        If the sprite image has to be read and Pillow or pooch is not installed.
    OSError
        If a download fails.
    """
    try:
        with np.load(fetch(_TILES)) as data:
            levels, labels = data["X"], data["y"].astype(np.int64)
    except DatasetNotFoundError:
        levels = tiles(np.asarray(_need("PIL.Image").open(fetch(_SPRITE)))[..., 0])
        labels = np.repeat(np.arange(10), 90)
    return Garments(levels / 255.0, labels)


def tiles(sprite: np.ndarray) -> np.ndarray:
    """Cut an image into squares of 28 pixels, row by row.

    Parameters
    ----------
    sprite : ndarray, shape (28 a, 28 b)

    Returns
    -------
    ndarray, shape (a b, 28, 28)
    """
    rows, columns = sprite.shape[0] // 28, sprite.shape[1] // 28
    return sprite.reshape(rows, 28, columns, 28).swapaxes(1, 2).reshape(rows * columns, 28, 28)


_MOVIETWEETINGS = "MovieTweetings by Simon Dooms, snapshot 100K, MIT licence (github.com/sidooms/MovieTweetings)"
_SNAPSHOT = Source(
    "ratings.dat",
    "c0dd868c2632d10002ebc928ddc5345f33adeaa59eca52c2941c26a2c5e36fd6",
    _MOVIETWEETINGS,
    "https://raw.githubusercontent.com/sidooms/MovieTweetings/4d8280a3f1ea83e3e23f13d1710d19f43564274f"
    "/snapshots/100K/ratings.dat",
)
_ARRAYS = Source(
    "movietweetings_100k.npz",
    "3ae813373e6109d708e546823108b5b3f5f19d94620b5385d2d010a7e5e7af73",
    f"the arrays of `Ratings`, derived from {_MOVIETWEETINGS}",
)


def load_ratings() -> Ratings:
    """100 000 film ratings from public tweets, by 16 554 users of 10 506 films (MovieTweetings, snapshot 100K).

    Read from ``movietweetings_100k.npz`` in the folder ``OPTLIB_DATA`` if it is there, else from the snapshot's
    ``ratings.dat`` there, in the cache, or downloaded. By Simon Dooms, MIT licence.

    Returns
    -------
    Ratings
        Users, films, ratings, times.

    Raises
    ------
    ValueError
        If a file is damaged.
    ImportError
        If a download is needed and pooch is not installed.
    OSError
        If a download fails.
    """
    try:
        with np.load(fetch(_ARRAYS)) as data:
            return Ratings(*(data[name].astype(np.int64) for name in Ratings._fields))
    except DatasetNotFoundError:
        return parse_ratings(fetch(_SNAPSHOT).read_text())


def parse_ratings(text: str) -> Ratings:
    """Read the lines ``user::film::rating::timestamp`` of MovieTweetings.

    Parameters
    ----------
    text : str

    Returns
    -------
    Ratings
    """
    user, imdb, rating, timestamp = np.array(text.replace("::", " ").split(), dtype=np.int64).reshape(-1, 4).T
    imdb_id, item = np.unique(imdb, return_inverse=True)
    return Ratings(user - 1, item, rating, timestamp, imdb_id)


def _need(module: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{module.partition('.')[0]} is needed for this; pip install 'optlib[experiments]'."
        ) from error
