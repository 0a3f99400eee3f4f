"""Checkpoints: the state of a run in one file, written atomically and never used for another problem."""

import hashlib
import json
import os
import zipfile
from dataclasses import is_dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import array_api_compat as compat
import numpy as np

from optlib._core.validation import error
from optlib.backend.namespace import to_numpy

VERSION = 1


class CheckpointError(ValueError):
    """Raised when a checkpoint is corrupt, or belongs to another version, problem or method."""


class Saved(NamedTuple):
    """Content of a checkpoint: fields of the state, and the record of the run so far."""

    fields: dict[str, Any]
    record: dict[str, Any]


def fingerprint(problem: Any) -> str:
    """Return a hash of arrays, numbers and strings, nested in tuples, lists, dicts and objects that hold arrays.

    Objects whose arrays and printed form do not say everything have a method ``identity`` that returns what does. A
    function is known by its name only: see `probe`.
    """
    digest = hashlib.sha256()
    _feed(digest, problem)
    return digest.hexdigest()


def _feed(digest: Any, item: Any) -> None:
    if compat.is_array_api_obj(item):
        host = np.ascontiguousarray(to_numpy(item))
        digest.update(f"array{host.shape}{host.dtype}".encode())
        digest.update(host.data if host.size else b"")
    elif isinstance(item, dict):
        for key in sorted(item):
            digest.update(f"key{key}".encode())
            _feed(digest, item[key])
    elif isinstance(item, (list, tuple)):
        digest.update(f"{len(item)}[".encode())
        for part in item:
            _feed(digest, part)
    elif callable(getattr(item, "identity", None)):
        digest.update(type(item).__qualname__.encode())
        _feed(digest, item.identity())
    elif hasattr(item, "_map_arrays"):
        named = type(item).__repr__ is not object.__repr__  # else the address
        digest.update((repr(item) if named else type(item).__qualname__).encode())

        def visit(x: Any) -> Any:
            _feed(digest, x)
            return x

        item._map_arrays(visit)
    elif is_dataclass(item) and not isinstance(item, type):
        digest.update(type(item).__qualname__.encode())
        _feed(digest, vars(item))
    elif callable(item):
        digest.update(f"{getattr(item, '__module__', '')}.{getattr(item, '__qualname__', type(item))}".encode())
    else:
        digest.update(repr(item).encode())


def probe(*answers: Any) -> list[Any]:
    """What functions answer at a fixed point, which tells problems apart that are made of functions.

    Rounded to six digits: with another number of threads the libraries below may add up in another order.

    Parameters
    ----------
    *answers : array or number

    Returns
    -------
    list
        For `fingerprint`.
    """
    known = []
    for answer in answers:
        host = np.asarray(to_numpy(answer), dtype=np.float64)
        scale = float(np.max(np.abs(host), initial=0.0))
        digits = np.round(host / scale, 6) + 0.0 if 0.0 < scale < np.inf else host
        known.append((f"{scale:.5e}", digits))
    return known


def write_atomic(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that at every moment the old or the new content is there whole (write, fsync, rename)."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_path(path: str | os.PathLike[str]) -> None:
    """Refuse a checkpoint that could not be written, before any work is done.

    Raises
    ------
    TypeError
        If it is not a path.
    ValueError
        If its directory does not exist or cannot be written, or it is a directory itself.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise error("checkpoint", type(path).__name__, "the path of a file", kind=TypeError)
    folder = Path(path).absolute().parent
    if Path(path).is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise error("checkpoint", repr(str(path)), "a file in an existing, writable directory", "create the directory")


def flatten(state: Any, prefix: str = "") -> dict[str, Any]:
    """Return the fields of a NamedTuple by name, those of nested ones as ``outer.inner``."""
    fields: dict[str, Any] = {}
    for name, value in state._asdict().items():
        if hasattr(value, "_asdict"):
            fields |= flatten(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields


def unflatten(template: Any, fields: dict[str, Any], prefix: str = "") -> Any:
    """Rebuild a NamedTuple of the type (and with the nested types) of ``template``."""
    return type(template)(
        *(
            unflatten(value, fields, f"{prefix}{name}.") if hasattr(value, "_asdict") else fields[prefix + name]
            for name, value in template._asdict().items()
        )
    )


def save(path: str | os.PathLike[str], state: Any, record: dict[str, Any], mark: str) -> None:
    """Save a state and the record of the run.

    Parameters
    ----------
    path : path
    state : NamedTuple
        Fields are arrays, Python numbers, strings, None, and NamedTuples of these.
    record : dict
        JSON-able: iterations, time, history, counts.
    mark : str
        The fingerprint of problem and options.
    """
    arrays, plain = {}, {}
    for name, value in flatten(state).items():
        if value is None or (isinstance(value, (bool, int, float, str)) and not isinstance(value, np.generic)):
            plain[name] = value
        else:
            arrays[f"array_{name}"] = to_numpy(value)
    header = {"version": VERSION, "mark": mark, "plain": plain, "record": record}
    buffer = BytesIO()
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(buffer, allow_pickle=False, **arrays)
    write_atomic(path, buffer.getvalue())


def load(path: str | os.PathLike[str], mark: str) -> Saved | None:
    """Load a checkpoint; None if there is no file.

    Raises
    ------
    CheckpointError
        If the file is corrupt, or was written for another problem, other options or another version.
    """
    path = Path(path)
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            header = json.loads(bytes(archive["header"]))
            arrays = {k.removeprefix("array_"): archive[k] for k in archive.files if k.startswith("array_")}
        version, found, plain, record = (header[k] for k in ("version", "mark", "plain", "record"))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as failure:
        raise CheckpointError(
            f"`checkpoint`: got {path.name}, which is not a readable checkpoint ({failure}). Fix: delete it."
        ) from failure
    if version != VERSION:
        raise CheckpointError(f"`checkpoint`: got format version {version}; expected {VERSION}. Fix: delete the file.")
    if found != mark:
        raise CheckpointError(
            f"`checkpoint`: got {path.name}, saved for another problem or other options. "
            "Fix: use another file name, or delete it."
        )
    return Saved({**plain, **arrays}, record)
