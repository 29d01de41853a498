"""For notebooks and programs: what the command `darts` does, with plain arguments and results that show themselves.

    from darts import api

    found = api.search("digits", seconds=60)
    trained = api.retrain(run=found, dataset="digits", recipe="fast")
    api.export(trained, format="onnx")

A data set is a name of `darts data --help`, or the folder of your own images. `options` are further settings by their
dotted names, `{"network.channels": 8}`. Mistakes raise `darts.run.errors.UserError` with the message of the command.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from darts.api.run import Options, Run, data, done, place

if TYPE_CHECKING:
    from darts.models.exporting import Exported
    from darts.models.predicting import Prediction
    from darts.training.model import Model


def search(
    dataset: str | os.PathLike[str] = "digits",
    *,
    method: str = "finalists",
    seconds: float | None = None,
    seed: int = 0,
    table: str | os.PathLike[str] | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    options: Options = None,
) -> Run:
    """Search a cell.

    Args:
        dataset: a name, or a folder of images.
        method: a preset, see docs/methods.md.
        seconds: for all of it; what the method has for its own if None.
        seed: of everything that is drawn.
        table: a CSV file of known accuracies, looked into when the search has ended.
        run_dir: outputs/search/DATE/TIME if None.
        options: any other settings of `darts search`.

    Raises:
        UserError: settings that do not fit, or data that cannot be read.
    """
    from darts.search.result import SearchResult

    given = data(dataset) | {"method": method, "seed": seed}
    given |= {} if seconds is None else {"budget.seconds": seconds}
    given |= {} if table is None else {"oracle.path": table}
    folder, text = done("search", given, options, run_dir)
    return Run(folder, text, SearchResult.read(folder / "result.json"))


def baseline(
    method: str = "regularized_evolution",
    *,
    evaluations: int = 1000,
    seeds: str | int = "0-4",
    table: str | os.PathLike[str] | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    options: Options = None,
) -> Run:
    """Search cells by a black-box method.

    Args:
        method: of `darts baseline --help`.
        evaluations: cells that may be asked about.
        seeds: such as ``0-4``.
        table: a CSV file of known accuracies, which answers unless `options` name another evaluator.
        run_dir: outputs/baseline/DATE/TIME if None.
        options: any other settings of `darts baseline`.

    Raises:
        UserError: settings that do not fit.
    """
    from darts.blackbox.result import BaselineResult

    given = {"baseline": method, "budget.evaluations": evaluations, "seeds": seeds}
    given |= {} if table is None else {"oracle.path": table}
    folder, text = done("baseline", given, options, run_dir)
    return Run(folder, text, BaselineResult.read(folder / "result.json"))


def retrain(
    cell: str | None = None,
    *,
    run: Run | str | os.PathLike[str] | None = None,
    init: Run | str | os.PathLike[str] | None = None,
    dataset: str | os.PathLike[str] = "digits",
    recipe: str = "nb201_200",
    epochs: int | None = None,
    seed: int = 0,
    run_dir: str | os.PathLike[str] | None = None,
    options: Options = None,
) -> Run:
    """Train the network of a cell, and judge it once.

    Args:
        cell: its text; or of
        run: a search or baseline, the cell.
        init: a trained network to begin with.
        dataset: a name, or a folder of images.
        recipe: see `darts retrain --help`.
        epochs: those of the recipe if None.
        seed: of everything that is drawn.
        run_dir: outputs/retrain/DATE/TIME if None.
        options: any other settings of `darts retrain`.

    Raises:
        UserError: settings that do not fit, or data that cannot be read.
    """
    from darts.training.result import RetrainResult

    given = data(dataset) | {"recipe": recipe, "seed": seed}
    given |= {} if cell is None else {"cell": cell}
    given |= {} if run is None else {"run": place(run)}
    given |= {} if init is None else {"init": place(init)}
    given |= {} if epochs is None else {"recipe.epochs": epochs}
    folder, text = done("retrain", given, options, run_dir)
    return Run(folder, text, RetrainResult.read(folder / "result.json"))


def compare(
    *runs: Run | str | os.PathLike[str], run_dir: str | os.PathLike[str] | None = None, options: Options = None
) -> Run:
    """Compare searches and baselines; `rows` are those of the table, `folder` has the page.

    Raises:
        UserError: no finished runs, or runs that cannot be compared.
    """
    import csv

    folder, text = done("compare", {}, options, run_dir, [place(run) for run in runs])
    with (folder / "compare.csv").open(newline="", encoding="utf-8") as stream:
        return Run(folder, text, rows=list(csv.DictReader(stream)))


def load_model(run: Run | str | os.PathLike[str], weights: str = "last") -> Model:
    """A trained network by its run or .safetensors file; called with bytes (B, C, H, W) it gives probabilities (B, K).

    Raises:
        UserError: there is none, or it cannot be read.
    """
    from darts.models.opening import open_model

    return open_model(Path(place(run)), "run", weights)


def evaluate(run: Run | str | os.PathLike[str], images: str | os.PathLike[str]) -> float:
    """Accuracy, percent, on a folder with one folder of images a class.

    Args:
        run: of a trained network; or an .onnx or .safetensors file.
        images: the folder, such as PHOTOS/test.

    Raises:
        UserError: no model, no images, or folders without the names of its classes.
    """
    from darts.run.errors import UserError

    labelled = [one for one in predict(run, images) if one.asked.label is not None and one.ranked]
    if not labelled:
        raise UserError(f"images: {images} has no images in folders with the names of the model's classes")
    return 100 * sum(one.ranked[0][0] == one.asked.label for one in labelled) / len(labelled)


def predict(run: Run | str | os.PathLike[str], *paths: str | os.PathLike[str]) -> list[Prediction]:
    """Classes and probabilities of image files and of all in folders.

    Args:
        run: of a trained network; or an .onnx or .safetensors file.
        paths: files and folders.

    Raises:
        UserError: no model, or a path that is not there.
    """
    from darts.models.predicting import files_of, open_predictor
    from darts.models.predicting import predict as answers

    predictor = open_predictor(Path(place(run)))
    return list(answers(predictor, files_of([Path(path) for path in paths], predictor.about.classes)[0]))


def export(
    run: Run | str | os.PathLike[str],
    format: str = "onnx",
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a trained network for other programs, checked against the model.

    Args:
        run: of a retraining or search.
        format: onnx, torch_export or safetensors.
        output: RUN_DIR/exports/model with the ending of the format if None.
        overwrite: replace a file that is there.

    Raises:
        UserError: an unknown format, a missing package, or a file that is there.
    """
    from darts.models.exporting import export as written
    from darts.models.formats.base import format_of

    form, folder = format_of(format), Path(place(run))
    path = folder / "exports" / f"model{form.suffix}" if output is None else Path(output)
    return written(load_model(folder), form, path, overwrite)
