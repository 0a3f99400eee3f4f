"""Runs on disk: rows as they come, kill and resume, the report, the command line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from optlib import experiments
from optlib.experiments import _records, cli, report
from tests.experiments import toy


@pytest.fixture
def command(monkeypatch):
    """The command line with the toy experiment only, in a wide terminal."""
    monkeypatch.setattr(experiments, "experiments", lambda: {"toy": toy})
    monkeypatch.setattr(report, "experiments", lambda: {"toy": toy})
    monkeypatch.setenv("COLUMNS", "200")
    application = cli.app()
    return lambda *arguments: CliRunner().invoke(application, [str(a) for a in arguments])


def without_times(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_list(command):
    result = command("list")
    assert result.exit_code == 0
    assert "Halving halves" in result.output
    assert "toy.ratio" in result.output


def test_run_reports_a_failed_claim_by_its_exit_status(command, tmp_path):
    result = command("run", "toy", "--out", tmp_path)
    assert result.exit_code == 1
    for word in ("pass", "not reproduced", "fail"):
        assert word in result.output


def test_run_succeeds_when_claims_pass_or_are_not_reproduced(command, tmp_path, monkeypatch):
    monkeypatch.setattr(toy, "CLAIMS", toy.CLAIMS[:2])
    result = command("run", "toy.ratio", "--out", tmp_path, "--seed", 3)
    assert result.exit_code == 0, result.output
    record = _records.read(tmp_path / "toy.jsonl")
    assert record.finished
    assert record.header["seed"] == 3
    assert len(record.rows) == 16
    assert {"numpy", "optlib", "device", "python"} <= set(record.header["environment"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "nothing"), "`ID`: got 'nothing'"),
        (("report", "no-such-folder"), "holds no rows"),
    ],
)
def test_wrong_use_is_named(command, arguments, message):
    result = command(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_existing_rows_are_not_overwritten_and_not_mixed(command, tmp_path):
    command("run", "toy", "--out", tmp_path)
    before = (tmp_path / "toy.jsonl").read_bytes()
    assert "--resume" in command("run", "toy", "--out", tmp_path).output
    assert "seed 0" in command("run", "toy", "--out", tmp_path, "--resume", "--seed", 1).output
    assert command("run", "toy", "--out", tmp_path, "--resume").exit_code == 1  # finished: judged again, nothing run
    assert (tmp_path / "toy.jsonl").read_bytes() == before


def test_unknown_file_is_refused(tmp_path):
    (tmp_path / "toy.jsonl").write_text("not json\n")
    with pytest.raises(ValueError, match="not a file of rows"):
        _records.run_experiment(toy, tmp_path, resume=True)


def test_unusable_backend_is_named(tmp_path):
    with pytest.raises(ValueError, match="`backend`: fortran"):
        _records.run_experiment(toy, tmp_path, backend="fortran")


@pytest.mark.parametrize("cut", [1, 7])
def test_half_written_line_is_dropped_on_resume(tmp_path, cut):
    complete = _records.run_experiment(toy, tmp_path / "whole")
    path = tmp_path / "toy.jsonl"
    lines = (tmp_path / "whole" / "toy.jsonl").read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:6]) + lines[6][:-cut])
    assert len(_records.read(path).rows) == 5
    seen = []
    record = _records.run_experiment(toy, tmp_path, resume=True, on_row=lambda done, total: seen.append((done, total)))
    assert without_times(record.rows) == without_times(complete.rows)
    assert seen == [(k, 16) for k in range(6, 17)]


KILLED = """
import pathlib, sys
sys.path.insert(0, {root!r})
from optlib.experiments._records import run_experiment
from tests.experiments import toy
run_experiment(toy, pathlib.Path({out!r}), scale="paper")
"""


def test_killed_run_resumes_with_nothing_lost(tmp_path):
    path = tmp_path / "toy.jsonl"
    code = KILLED.format(root=str(Path(__file__).parents[2]), out=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"TOY_SECONDS": "0.05"})
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_bytes().count(b"\n") > 4):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = _records.read(path)
    assert 3 < len(before.rows) < 98
    after = _records.run_experiment(toy, tmp_path, scale="paper", resume=True)
    assert after.rows[: len(before.rows)] == before.rows
    keys = [(row["number"], row["repeat"]) for row in after.rows]
    assert keys == [(number, repeat) for number in range(1, 50) for repeat in (0, 1)]
    whole = _records.run_experiment(toy, tmp_path / "whole", scale="paper")
    assert without_times(after.rows) == without_times(whole.rows)
    for line in path.read_text().splitlines():
        json.loads(line)


def test_report_is_one_self_contained_page(command, tmp_path):
    command("run", "toy", "--out", tmp_path)
    result = command("report", tmp_path)
    assert result.exit_code == 0
    html = (tmp_path / "report.html").read_text()
    assert "Halving a number &lt;halves&gt; it." in html
    for word in ("Euclid", "0.5 to 0.5", "A share is at most 1.", "not reproduced", "pass", "fail", "numpy", "seed"):
        assert word in html
    assert_self_contained(html)


def assert_self_contained(html):
    assert html.rstrip().endswith("</html>")
    assert "<script" not in html
    addresses = re.findall(r'(?:src|srcset|href)="([^"]*)"', html) + re.findall(r"url\(([^)]*)\)", html)
    assert addresses
    assert all(address.startswith("data:") for address in addresses)


def test_report_of_an_unfinished_run_says_so(command, tmp_path):
    _records.run_experiment(toy, tmp_path)
    path = tmp_path / "toy.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    assert command("report", tmp_path).exit_code == 0
    assert "not finished" in (tmp_path / "report.html").read_text()


def test_version_and_help(command):
    assert "optlib" in command("--version").output
    assert "report" in command("--help").output


def test_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"needs matplotlib.*pip install 'optlib\[experiments\]'"):
        cli.main()
