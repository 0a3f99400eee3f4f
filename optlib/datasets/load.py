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
    images : ndarray, shape (1797, 8, 8)
        Levels in [0, 1].
    labels : ndarray, shape (1797,)
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
        h5py = _need("h5py")
        with h5py.File(fetch(CELLS)) as file:
            pca, umap = file["obsm"]["X_pca"], file["obsm"]["X_umap"]
            cell_type = file["obs"]["bulk_labels"]
            names = [name.decode() for name in file["uns"]["bulk_labels_categories"][:]]
    pca, umap = (np.asarray(np.asarray(u, np.float32), np.float64) for u in (pca, umap))
    return Cells(pca, umap, np.asarray(cell_type, np.int64), [str(name) for name in names])


def _need(module: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{module.partition('.')[0]} is needed for this; pip install 'optlib[experiments]'."
        ) from error
