"""The tour: page, images, kill and resume, on a few hundred pixels."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import optlib
from optlib.datasets import Cells, Ratings
from optlib.experiments import cli
from optlib.experiments.tour import (
    STAGES,
    Context,
    camera,
    cells,
    colours,
    denoise,
    penalties,
    portfolios,
    ratings,
    take_tour,
)  # fmt: skip

PIXELS = 300
IMAGES = ("china", "flower", "china-repainted", "flower-repainted")


def few_ratings():
    """Stars by the taste of 40 people for 30 films."""
    rng = np.random.default_rng(0)
    user, item = np.nonzero(rng.random((40, 30)) < 0.8)
    taste = rng.normal(size=(40, 2)) @ rng.normal(size=(2, 30)) + rng.normal(size=(40, 1))
    stars = np.clip(np.rint(6.0 + taste[user, item]), 0, 10).astype(int)
    return Ratings(user, item, stars, np.zeros_like(stars), np.arange(30))


def few_cells():
    """Thirty cells of three types."""
    rng, kinds = np.random.default_rng(0), np.arange(30) % 3
    names = [cells.SOURCE, cells.TARGET, "B"]
    return Cells(rng.normal(size=(30, 5)) + kinds[:, None], rng.normal(size=(30, 2)), kinds, names)


@pytest.fixture(scope="module", autouse=True)
def small_data():
    """Every fourth pixel and a few days and people, for speed."""
    photographs = {name: image[::4, ::4] for name, image in colours.load_photographs().items()}
    relatives, names, dates, credit = portfolios._market()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(colours, "load_photographs", lambda: photographs)
        patch.setattr(ratings, "load_ratings", few_ratings)
        patch.setattr(ratings, "SPLITS", 2)
        patch.setattr(camera, "SIDE", 32)
        for name, value in {"HEIGHT": 32, "PATCHES": 4, "SIDE": 16, "STEPS": 3}.items():
            patch.setattr(denoise, name, value)
        patch.setattr(cells, "load_cells", few_cells)
        patch.setattr(penalties, "PART", 100)
        patch.setattr(penalties, "STEPS", 2)
        patch.setattr(portfolios, "_market", lambda: (relatives[:40], names, dates[:40], credit))
        yield


@pytest.fixture
def only_pictures(monkeypatch):
    """All stages but the pictures have nothing to say, for speed."""
    for module in (camera, cells, denoise, penalties, portfolios, ratings):
        monkeypatch.setattr(module, "run", lambda context: [])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder of a tour that was not disturbed."""
    out = tmp_path_factory.mktemp("tour")
    result = CliRunner().invoke(cli.app(), ["tour", "--pixels", str(PIXELS), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert str(out / "index.html") in result.output
    return out


def levels(folder, name):
    return np.asarray(Image.open(folder / f"{name}.png"), dtype=float)


def assert_complete(folder):
    """Nothing in the folder is half-written."""
    for path in folder.rglob("*"):
        if path.is_dir() or path.name.endswith(".tmp"):  # the next tour sweeps up the latter
            continue
        if path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".npz":
            with np.load(path) as archive:
                [archive[name] for name in archive.files]
        elif path.suffix == ".html":
            assert path.read_text().endswith("</html>\n")
        else:
            assert path.suffix == ".json"


def test_page_is_self_contained(whole):
    html = (whole / "index.html").read_text()
    assert html.endswith("</html>\n")
    assert "<script" not in html
    loaded = re.findall(r'(?:src|srcset)="([^"]*)"', html) + re.findall(r'<link[^>]*href="([^"]*)"', html)
    assert len(loaded) >= len(IMAGES)
    assert all(address.startswith("data:") for address in loaded + re.findall(r"url\(([^)]*)\)", html))


def test_page_shows_what_matters(whole):
    html = (whole / "index.html").read_text()
    words = ("certified", "duality gap", "ΔE", "res.plan.T.barycentric", "CC BY 2.0", "numpy", optlib.__version__)
    for word in words:
        assert word in html
    assert "not certified" not in html


def test_images_take_the_palette_of_each_other(whole):
    assert {path.stem for path in whole.glob("*.png") if not path.stem.startswith(("grey", "denoise"))} == set(IMAGES)
    china, flower, new_china, new_flower = (levels(whole, name) for name in IMAGES)
    assert china.shape == flower.shape == new_china.shape == new_flower.shape == (107, 160, 3)
    for new, palette, old in ((new_china, flower, china), (new_flower, china, flower)):
        mean, wanted, before = (image.mean(axis=(0, 1)) for image in (new, palette, old))
        assert np.abs(mean - wanted).max() < 0.2 * np.abs(before - wanted).max()


def test_second_tour_goes_on_from_what_is_there(whole, monkeypatch):
    monkeypatch.setattr(colours, "run", None)  # calling it would fail
    before = (whole / "index.html").read_bytes()
    take_tour(whole, pixels=PIXELS)
    assert (whole / "index.html").read_bytes() == before
    with pytest.raises(TypeError):
        take_tour(whole, pixels=PIXELS + 1)  # another size is another tour


def test_fresh_starts_again_and_sweeps_up(tmp_path, monkeypatch, only_pictures):
    monkeypatch.setattr(colours, "run", lambda context: ["<p>first</p>"])
    take_tour(tmp_path)
    (tmp_path / ".china.png.1.tmp").write_bytes(b"half-wri")
    monkeypatch.setattr(colours, "run", lambda context: ["<p>second</p>"])
    assert "first" in take_tour(tmp_path).read_text()
    assert "second" in take_tour(tmp_path, fresh=True).read_text()
    assert not list(tmp_path.rglob("*.tmp"))


def test_torch_gives_the_same_pictures(whole, tmp_path):
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small arrays: threads only wait for each other
    take_tour(tmp_path, pixels=PIXELS, backend="torch")
    torch.set_num_threads(threads)
    for name in IMAGES:
        assert np.abs(levels(whole, name) - levels(tmp_path, name)).max() <= 1.0


KILLED = """
import sys, time
sys.path.insert(0, {root!r})
from optlib._core import driver
from optlib.experiments.tour import Context, camera, cells, colours, denoise, penalties, portfolios, ratings, take_tour
denoise.run = penalties.run = portfolios.run = ratings.run = camera.run = cells.run = lambda context: []
photographs = {{name: image[::4, ::4] for name, image in colours.load_photographs().items()}}
colours.load_photographs = lambda: photographs
driver.SAVE_EVERY = 0.0
Context.progress = lambda self, label: lambda intermediate_result: time.sleep({pause})
take_tour({out!r}, pixels={pixels})
"""


@pytest.mark.parametrize("moment", ["solver", "pictures"])
def test_killed_tour_resumes(whole, only_pictures, tmp_path, moment):
    code = KILLED.format(
        root=str(Path(__file__).parents[2]), out=str(tmp_path), pixels=PIXELS, pause=0.3 if moment == "solver" else 0.0
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    awaited = "work/*.npz" if moment == "solver" else "china*.png"
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(awaited)):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "index.html").exists()
    assert_complete(tmp_path)
    take_tour(tmp_path, pixels=PIXELS)
    assert_complete(tmp_path)
    assert not list(tmp_path.rglob("*.tmp"))
    for name in IMAGES:
        np.testing.assert_array_equal(levels(tmp_path, name), levels(whole, name))


def test_snippet_runs():
    rng = np.random.default_rng(0)
    names = {"china": rng.random((20, 3)), "flower": rng.random((25, 3))}
    exec(colours.SNIPPET.replace("callback=optlib.progress()", "callback=None"), names)
    assert names["china_repainted"].shape == (20, 3)
    assert names["flower_repainted"].shape == (25, 3)


def test_ratings_with_taste_beat_biases(tmp_path):
    pieces = "".join(ratings.run(Context("numpy", tmp_path, PIXELS, False)))
    assert "10 of 10 certified" in pieces
    errors = [float(number) for number in re.findall(r"([\d.]+) stars", pieces)]
    assert errors[0] < 0.8 * errors[1] < 0.8 * errors[2]


def test_ratings_keep_the_dense_part():
    data = few_ratings()
    lonely = Ratings(
        np.append(data.user, [50, 51]), np.append(data.item, [40, 0]), np.append(data.rating, [1, 1]), 0, 0
    )
    people, films, stars = ratings.dense_part(lonely, 5)
    np.testing.assert_array_equal(people, data.user)
    np.testing.assert_array_equal(films, data.item)
    np.testing.assert_array_equal(stars, data.rating)


def test_ratings_snippet_runs():
    data = few_ratings()
    names = {"people": data.user, "films": data.item, "stars": data.rating}
    exec(ratings.SNIPPET, names)
    assert names["said"].shape == (2,)
    assert np.all(np.isfinite(names["filled"]))


def test_stage_without_its_data_is_left_out_and_tried_again(tmp_path, monkeypatch):
    for module in (colours, camera, cells, denoise, penalties, portfolios):
        monkeypatch.setattr(module, "run", lambda context: [])
    monkeypatch.setattr(ratings, "load_ratings", lambda: (_ for _ in ()).throw(OSError("no way to <there>")))
    assert "no way to &lt;there&gt;" in take_tour(tmp_path).read_text()
    monkeypatch.setattr(ratings, "load_ratings", few_ratings)
    assert "error with taste" in take_tour(tmp_path).read_text()


def test_cells_have_exact_costs_within_the_proven_intervals(tmp_path):
    pieces = "".join(cells.run(Context("numpy", tmp_path, PIXELS, False)))
    for word in ("always", "8 of 8", "lp gap", "CC BY 4.0"):
        assert word in pieces
    assert "NOT ALWAYS" not in pieces


def test_cells_snippet_runs():
    rng = np.random.default_rng(0)
    exec(cells.SNIPPET, {"monocytes": rng.normal(size=(9, 3)), "dendritic": rng.normal(size=(7, 3)), "reg": 0.5})


def test_camera_sees_more_with_more_sums(tmp_path):
    pieces = "".join(camera.run(Context("numpy", tmp_path, PIXELS, False)))
    assert "not certified" not in pieces
    quarter, half = (float(number) for number in re.findall(r"sums: ([\d.]+) dB</fig", pieces))
    assert half > quarter > 10.0
    assert levels(tmp_path, "grey").shape == (32, 32, 3)


def test_camera_snippet_runs():
    smooth = np.outer(np.sin(np.arange(256) / 40.0), np.cos(np.arange(256) / 30.0))
    names = {"picture": smooth}
    exec(camera.SNIPPET, names)
    assert np.abs(names["again"] - smooth).max() < 0.05


def test_denoisers_remove_noise(tmp_path):
    pieces = "".join(denoise.run(Context("numpy", tmp_path, PIXELS, False)))
    assert "not certified" not in pieces
    noisy, *better = (float(number) for number in re.findall(r": ([\d.]+) dB</fig", pieces))
    assert len(better) == 2
    assert min(better) > noisy + 2.0
    assert levels(tmp_path, "denoise-experts").shape == levels(tmp_path, "denoise-clean").shape == (32, 48, 3)


@pytest.mark.filterwarnings("ignore:.*maxiter")
def test_denoise_snippet_runs():
    rng = np.random.default_rng(0)
    clean = np.kron(rng.random((2, 3, 3, 3)), np.ones((1, 6, 6, 1)))
    noisy = clean + 0.1 * rng.normal(size=clean.shape)
    names = {"clean": clean, "noisy": noisy, "picture": noisy[0]}
    exec(denoise.SNIPPET.replace("filters=3, max_iter=20", "filters=2, max_iter=2"), names)
    assert np.abs(names["better"] - clean[0]).mean() < np.abs(noisy[0] - clean[0]).mean()


def test_penalties_are_tested_on_images_of_their_own(tmp_path):
    pieces = "".join(penalties.run(Context("numpy", tmp_path, PIXELS, False)))
    one, _, many = re.findall(r"<td>(\d+)</td><td>([\d.]+)</td><td>([\d.]+)</td>", pieces)
    assert (one[0], many[0]) == ("1", "650")
    assert float(many[1]) < float(one[1])
    assert "650 hyperparameters for 100 validation samples" in pieces


def test_penalties_snippet_runs():
    rng = np.random.default_rng(0)
    A, V = rng.normal(size=(2, 60, 3))
    names = {"A": A, "t": np.arange(60.0) % 2, "V": V, "c": np.arange(60.0) % 2}
    exec(penalties.SNIPPET, names)
    assert names["res"].x.shape == (3, 2)


def test_portfolios_know_how_far_behind_they_can_be(tmp_path):
    pieces = "".join(portfolios.run(Context("numpy", tmp_path, PIXELS, False)))
    rows = re.findall(r"<td>(-?[\d.]+)</td><td>≤ (-?[\d.]+)</td>", pieces)
    assert len(rows) == 4
    assert all(float(regret) <= float(bound) + 1e-3 for regret, bound in rows)
    assert "European Central Bank" in pieces


def test_portfolio_snippet_runs():
    names = {"relatives": np.exp(0.1 * np.random.default_rng(0).standard_normal((50, 3)))}
    exec(portfolios.SNIPPET, names)
    assert names["res"].regret <= names["res"].regret_bound


def test_unusable_backend_is_named(tmp_path):
    with pytest.raises(ValueError, match="`backend`: fortran"):
        take_tour(tmp_path, backend="fortran")


def test_every_stage_is_complete():
    for name in STAGES:
        module = getattr(__import__("optlib.experiments.tour", fromlist=[name]), name)
        assert module.TITLE
        assert callable(module.run)


@pytest.mark.parametrize(
    ("srgb", "lab"),
    [
        ((1, 1, 1), (1, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (0.5324, 0.8009, 0.6720)),
        ((0, 0, 1), (0.3230, 0.7919, -1.0786)),
    ],
)
def test_lab_of_known_colours(srgb, lab):
    np.testing.assert_allclose(colours.to_lab(np.array(srgb, dtype=float)), lab, atol=2e-4)


def test_lab_there_and_back():
    srgb = np.random.default_rng(0).random((100, 3))
    np.testing.assert_allclose(colours.to_srgb(colours.to_lab(srgb)), srgb, atol=1e-12)
