"""Optuna's samplers share a database between machines: all learn from all, and a stopped run finds its own again."""

from __future__ import annotations

from pathlib import Path

import pytest

from darts.blackbox.evaluators.base import Evaluator
from darts.blackbox.loop import Answer, BlackBox
from darts.cli import main
from supernet.spaces.base import Genotype
from supernet.spaces.cells import CellSpace

optuna = pytest.importorskip("optuna", reason="Optuna is an extra")

from darts.blackbox.methods.optuna_sampler import OptunaSampler  # noqa: E402

SPACE = CellSpace()
WORDS = ["baseline=tpe", "evaluator=zero_cost", "dataset=fake", "oracle=none", "budget.evaluations=6"]


class Convolutions(Evaluator):
    """How many a cell has."""

    def __init__(self) -> None:
        super().__init__(None)

    def open(self, context: object) -> None:
        return

    def value(self, genotype: Genotype, epochs: int) -> float:
        return float(str(genotype).count("nor_conv"))

    def images(self, epochs: int) -> int:
        return 0

    def describe(self) -> dict[str, object]:
        return {}


def search(url: str, sampler: str = "tpe") -> BlackBox:
    method = OptunaSampler(sampler)
    method.share(url, "ours")
    return BlackBox(method, SPACE, Convolutions(), 12)


def trials(url: str) -> list[optuna.trial.FrozenTrial]:
    return list(optuna.load_study(study_name="ours", storage=url).trials)


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_second_machine_learns_from_the_first_and_a_stopped_run_finds_its_own(sampler: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    answers: list[Answer] = []
    first = search(url, sampler).run(0, note=answers.append)
    assert len(trials(url)) == 12
    other = search(url, sampler)
    other.run(1)
    assert len(trials(url)) == 24
    assert len({trial.user_attrs["run"] for trial in trials(url)}) == 2
    resumed = search(url, sampler).run(0, answers[:7])  # the others' trials would lead to other cells
    assert [point.cell for point in resumed.trajectory] == [point.cell for point in first.trajectory]
    assert len(trials(url)) == 24
    assert all(trial.state.is_finished() for trial in trials(url))


def test_a_database_is_said_where_it_is_of_no_use_or_not_to_be_believed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, folder = f"sqlite:///{tmp_path / 'shared.db'}", tmp_path / "run"
    assert main(["baseline", f"storage={url}", *WORDS[1:], f"run_dir={folder}"]) == 2
    assert "RegularizedEvolution shares nothing, Optuna's samplers do" in capsys.readouterr().err
    assert main(["baseline", *WORDS, "storage=foo://x", f"run_dir={folder}"]) == 2
    assert "storage: foo://x cannot be used" in capsys.readouterr().err
    assert not folder.exists()
    assert main(["baseline", *WORDS, f"storage={url}", "seeds=0", f"run_dir={folder}"]) == 0
    (folder / "result.json").unlink()
    assert main(["baseline", f"resume={folder}"]) == 2
    assert f"storage: the trials are in {url}, which is written to" in capsys.readouterr().err
    assert main(["baseline", f"resume={folder}", f"storage={url}"]) == 0
