import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from optlib.datasets import (
    DatasetNotFoundError,
    Source,
    fetch,
    load,
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
from tests.conftest import available

CONTENT = b"some data"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    path = tmp_path / "data"
    path.mkdir()
    monkeypatch.setenv("OPTLIB_DATA", str(path))
    monkeypatch.setenv("OPTLIB_CACHE", str(tmp_path / "cache"))
    return path


def test_local_folder_comes_first(folder):
    (folder / "x.bin").write_bytes(CONTENT)
    assert fetch(Source("x.bin", SHA256, "made here", "http://127.0.0.1:9/never-asked")) == folder / "x.bin"


def test_damaged_local_file_is_refused(folder):
    (folder / "x.bin").write_bytes(CONTENT + b"!")
    with pytest.raises(ValueError, match=r"OPTLIB_DATA.*sha256"):
        fetch(Source("x.bin", SHA256, "made here"))


@pytest.mark.parametrize("is_set", [True, False])
def test_derived_file_that_is_missing_says_how_to_get_it(folder, monkeypatch, is_set):
    if not is_set:
        monkeypatch.delenv("OPTLIB_DATA")
    with pytest.raises(DatasetNotFoundError, match=r"OPTLIB_DATA.*derived from the moon"):
        fetch(Source("x.bin", SHA256, "derived from the moon"))


def test_download_into_the_cache(folder, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "x.bin").write_bytes(CONTENT)
    (site / "bad.bin").write_bytes(b"other")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        source = Source("x.bin", SHA256, "made here", f"{url}/x.bin")
        path = fetch(source)
        with pytest.raises(ValueError, match="hash"):
            fetch(Source("bad.bin", SHA256, "made here", f"{url}/bad.bin"))
        server.shutdown()
    assert path.read_bytes() == CONTENT
    assert path.parent == tmp_path / "cache"
    assert fetch(source) == path  # the server is gone: this one comes from the cache


def test_photographs():
    photographs = load_photographs()
    assert set(photographs) == {"china", "flower"}
    for image in photographs.values():
        assert image.shape == (427, 640, 3)
        assert image.min() >= 0.0
        assert image.max() <= 1.0


def test_digits():
    images, labels = load_digits()
    assert images.shape == (1797, 8, 8)
    assert images.max() == 1.0
    np.testing.assert_array_equal(np.unique(labels), np.arange(10))


def test_exchange_rates():
    relatives, names, dates = available(load_fx_ecb)
    assert relatives.shape == (7125, 18) == (len(dates), len(names))
    assert np.all(relatives[:, 0] == 1.0)
    assert names[0] == "EUR"
    assert 0.9 < relatives.min() < relatives.max() < 1.2
    assert str(dates[0]) == "1999-01-05"
    assert np.all(np.diff(dates) > np.timedelta64(0))


def test_mnist():
    images, labels = available(load_mnist)
    assert images.shape == (6000, 28, 28) and images.min() >= 0.0 and images.max() == 1.0
    assert np.all(np.bincount(labels, minlength=10) > 500)


def test_experts():
    predictions, target, names = available(load_approval_experts)
    errors = np.mean(np.abs(predictions - target[:, None]), axis=0)
    assert names[np.argmin(errors)] == "you_gov"
    assert errors.min() == pytest.approx(1.11, abs=0.01)


def test_rentals():
    features, rentals, names = available(load_bike_sharing_hour)
    assert features.shape == (17379, 12) == (len(rentals), len(names))
    assert rentals.sum() == 3_292_679


LINES = "1::0000031::7::1365029107\n1::0000007::8::1366576639\n2::0000031::10::1364690142\n"


def test_ratings_from_the_snapshot(folder, monkeypatch):
    (folder / "ratings.dat").write_text(LINES)
    sha256 = hashlib.sha256(LINES.encode()).hexdigest()
    monkeypatch.setattr(load, "_SNAPSHOT", load._SNAPSHOT._replace(sha256=sha256))
    check_ratings(load_ratings())


def test_ratings_from_arrays(folder, monkeypatch):
    np.savez(folder / "movietweetings_100k.npz", **load.parse_ratings(LINES)._asdict())
    sha256 = hashlib.sha256((folder / "movietweetings_100k.npz").read_bytes()).hexdigest()
    monkeypatch.setattr(load, "_ARRAYS", load._ARRAYS._replace(sha256=sha256))
    check_ratings(load_ratings())


def check_ratings(ratings):
    np.testing.assert_array_equal(ratings.user, [0, 0, 1])
    np.testing.assert_array_equal(ratings.item, [1, 0, 1])
    np.testing.assert_array_equal(ratings.rating, [7, 8, 10])
    np.testing.assert_array_equal(ratings.imdb_id, [7, 31])
    assert ratings.timestamp[0] == 1365029107


def test_garments(monkeypatch):
    monkeypatch.setattr(load, "_SPRITE", load._SPRITE._replace(url=None))  # no download
    garments = available(load_garments)
    assert garments.images.shape == (900, 28, 28)
    assert garments.images.min() == 0.0
    assert garments.images.max() == 1.0
    assert np.bincount(garments.labels).tolist() == 10 * [90]


def test_garments_from_the_sprite(folder, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    levels = np.random.default_rng(0).integers(0, 256, (840, 840, 4), dtype=np.uint8)
    image.fromarray(levels).save(folder / "fashion-mnist-sprite.png")
    sha256 = hashlib.sha256((folder / "fashion-mnist-sprite.png").read_bytes()).hexdigest()
    monkeypatch.setattr(load, "_SPRITE", load._SPRITE._replace(sha256=sha256))
    garments = load_garments()
    np.testing.assert_array_equal(255.0 * garments.images[31], levels[28:56, 28:56, 0])


def test_cells(monkeypatch):
    monkeypatch.setattr(load, "CELLS", load.CELLS._replace(url=None))  # no download
    cells = available(load_cells)
    assert cells.pca.shape == (700, 50)
    assert cells.umap.shape == (700, 2)
    assert np.bincount(cells.cell_type).tolist() == [68, 8, 19, 54, 43, 129, 95, 13, 31, 240]
    assert cells.names[5] == "CD14+ Monocyte"
