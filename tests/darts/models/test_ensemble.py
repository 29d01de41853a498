"""Several trained networks as one, against averages made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from darts.cli import main
from darts.models.ensembling import disagreement, greedy, members_of
from darts.training.judging import calibration, confusion, mistakes
from darts.training.model import load_model

CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
TINY = ["dataset=fake", "network.channels=4", "network.cells=1", "recipe.epochs=2", "data.batch_size=32"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    words = ["retrain", f"cell={CELL}", *TINY]
    for seed in range(3):
        assert main([*words, "data.held_out=0.2", f"seed={seed}", f"run_dir={folder / str(seed)}"]) == 0
    assert main([*words, f"run_dir={folder.with_name('whole')}"]) == 0
    return folder


def drawn(members: int, images: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(members, images, classes, generator=generator)
    return logits.softmax(dim=2), torch.randint(classes, (images,), generator=generator)


def test_the_ensemble_is_the_mean_of_the_probabilities(runs: Path, tmp_path: Path) -> None:
    folders = [runs / str(seed) for seed in range(3)]
    assert main(["ensemble", *map(str, folders), f"run_dir={tmp_path / 'out'}"]) == 0
    found = json.loads((tmp_path / "out/ensemble.json").read_text())
    final = members_of(folders).tasks.final
    labels, mean, single = [], [], []
    models = [load_model(folder / "checkpoints/model.pt", "run").network for folder in folders]
    with torch.no_grad():
        for images, targets in final.evaluation_batches():
            each = [torch.exp(model(images)) / torch.exp(model(images)).sum(1, keepdim=True) for model in models]
            mean.append((each[0] + each[1] + each[2]) / 3)
            single.append([(one.argmax(1) == targets).tolist() for one in each])
            labels.append(targets)
    right = (torch.cat(mean).argmax(1) == torch.cat(labels)).numpy()
    assert found["ensemble"]["accuracy"] == pytest.approx(100 * right.mean(), abs=1e-9)
    for place, one in enumerate(found["members"]):
        own = np.concatenate([batch[place] for batch in single])
        assert one["accuracy"] == pytest.approx(100 * own.mean(), abs=1e-9)
        result = json.loads((folders[place] / "result.json").read_text())
        assert one["accuracy"] == pytest.approx(result["test_accuracy"], abs=1e-9)


def test_a_folder_of_runs_and_a_choice_on_what_was_held_out(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ensemble", str(runs), "select=4", f"run_dir={tmp_path / 'out'}"]) == 0
    found = json.loads((tmp_path / "out/ensemble.json").read_text())
    assert sum(one["times"] for one in found["members"]) == 4
    assert "better than the best of them" in (out := capsys.readouterr().out) or "worse than the best of them" in out


def test_greedy_selection_takes_the_best_first_and_never_what_makes_it_worse() -> None:
    probabilities, labels = drawn(6, 400, 5)
    chosen = greedy(probabilities, labels, 8)
    alone = [float((one.argmax(1) == labels).double().mean()) for one in probabilities]
    assert alone[chosen[0]] == max(alone)
    for count in range(1, 8):  # brute force: no other member would have been better at that place

        def accuracy(places: list[int]) -> float:
            return float((probabilities[places].double().mean(0).argmax(1) == labels).double().mean())

        best = max(accuracy([*chosen[:count], other]) for other in range(6))
        assert accuracy(chosen[: count + 1]) == best


def test_disagreement_is_the_share_of_different_answers_over_pairs() -> None:
    answers = torch.tensor([[0, 1, 2, 0], [0, 1, 1, 1], [2, 1, 2, 0]])
    one_hot = torch.nn.functional.one_hot(answers, 3).float()
    assert disagreement(one_hot) == pytest.approx(100 * (2 / 4 + 1 / 4 + 3 / 4) / 3)


def test_calibration_is_a_count_in_bins() -> None:
    probabilities, labels = (part[0] if part.dim() == 3 else part for part in drawn(1, 500, 4, seed=3))
    total = 0.0
    for low in range(15):
        inside = [
            (float(row.max()), int(row.argmax()) == int(label))
            for row, label in zip(probabilities.double(), labels, strict=True)
            if low / 15 < float(row.max()) <= (low + 1) / 15
        ]
        if inside:
            total += abs(sum(sure for sure, _ in inside) - sum(right for _, right in inside))
    assert calibration(probabilities, labels).error == pytest.approx(100 * total / 500, abs=1e-9)


def test_the_worst_mistakes_are_wrong_and_in_order() -> None:
    probabilities, labels = (part[0] if part.dim() == 3 else part for part in drawn(1, 200, 4, seed=5))
    found = mistakes(probabilities, labels, 10)
    wrong = [n for n in range(200) if int(probabilities[n].argmax()) != int(labels[n])]
    by_hand = sorted(wrong, key=lambda n: float(probabilities[n, labels[n]]))[:10]
    assert [one.place for one in found] == by_hand
    assert int(confusion(probabilities, labels).trace()) == 200 - len(wrong)
    sure = torch.eye(3)[torch.tensor([0, 1, 2])]
    assert mistakes(sure, torch.tensor([0, 1, 2]), 5) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["0"], "two folders"), (["0", "../whole"], "different images (data.held_out differ)"),
        (["0", "nowhere"], "nowhere"),
        (["../whole", "../whole/../whole", "select=2"], "two folders"), (["0", "1", "select=0"], "select: got 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined_is_said(
    words: list[str], message: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word if "=" in word else str(runs / word) for word in words]
    assert main(["ensemble", *given, f"run_dir={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert not (tmp_path / "out").exists()
