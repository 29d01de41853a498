"""Sweeps on launchers: every YAML of the group whose package is here, and what is said where one is not."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

CLUSTERS = {
    file.stem: yaml.safe_load(file.read_text(encoding="utf-8"))["defaults"][0]["override /hydra/launcher"]
    for file in sorted((Path(__file__).parents[3] / "configs" / "cluster").glob("*.yaml"))
}
PACKAGES = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"}
WORDS = ["method=plain", "dataset=fake", "budget.epochs=1", "network.channels=2", "oracle=none"]


def darts(*words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "darts", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=200)


def needs(cluster: str) -> None:
    """Skip where its launcher is not installed."""
    plugin = f"hydra_plugins.hydra_{PACKAGES[CLUSTERS[cluster]]}_launcher"
    if importlib.util.find_spec("hydra_plugins") is None or importlib.util.find_spec(plugin) is None:
        pytest.skip(f"{plugin} is an extra")


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [name for name in CLUSTERS if name != "slurm"])
def test_a_sweep_makes_all_jobs_and_skips_those_that_are_finished(cluster: str, tmp_path: Path) -> None:
    needs(cluster)
    line = ["search", "-m", "seed=0,1", f"cluster={cluster}", *WORDS, f"run_dir={tmp_path / 'sweep'}"]
    done = darts(*line)
    assert done.returncode == 0, done.stderr
    results = [tmp_path / "sweep" / f"seed={seed}" / "result.json" for seed in (0, 1)]
    cells = [json.loads(file.read_text())["cell"] for file in results]
    before = [file.stat().st_mtime_ns for file in results]
    results[1].unlink()
    again = darts(*line)
    assert again.returncode == 0, again.stderr
    assert results[0].stat().st_mtime_ns == before[0]
    assert [json.loads(file.read_text())["cell"] for file in results] == cells
    compared = darts("compare", tmp_path / "sweep", "oracle=none", f"run_dir={tmp_path / 'compared'}")
    assert compared.returncode == 0, compared.stderr
    with (tmp_path / "compared" / "compare.csv").open(newline="") as stream:
        assert [row["runs"] for row in csv.DictReader(stream)] == ["2"]


@pytest.mark.slow
def test_a_job_whose_time_is_up_is_sent_again_and_goes_on(tmp_path: Path) -> None:
    """As by Slurm; of a minute, the shortest time that a job may ask for, submitit leaves it half."""
    needs("slurm_here")
    words = [word for word in WORDS if not word.startswith("budget")] + ["budget.epochs=null", "budget.seconds=40"]
    done = darts(
        "search", "-m", "seed=0", "cluster=slurm_here", "hydra.launcher.timeout_min=1", *words,
        f"run_dir={tmp_path / 'sweep'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (result,) = (tmp_path / "sweep").rglob("result.json")
    said = "".join(file.read_text() for file in (tmp_path / "sweep").rglob("*_log.err"))
    steps = [int(step) for step in re.findall(r"resuming at step (\d+)", said)]
    assert steps
    assert steps == sorted({*steps} - {0}), "every job goes on from where the one before was stopped"
    assert json.loads(result.read_text())["steps"] > steps[-1]


def test_slurm_without_slurm_is_one_message(tmp_path: Path) -> None:
    needs("slurm")
    done = darts("search", "-m", "seed=0,1", "cluster=slurm", *WORDS, f"run_dir={tmp_path / 'sweep'}")
    assert done.returncode == 2
    assert "there is no srun" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cluster_without_a_sweep_is_refused() -> None:
    done = darts("search", "cluster=joblib")
    assert done.returncode == 2
    assert "cluster: it says where the jobs of a sweep run; add -m" in done.stderr
