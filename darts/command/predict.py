"""The command `darts predict`: what a trained network says of image files, or of series."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from darts.command.base import Call, Command
from darts.run.errors import UserError

if TYPE_CHECKING:
    from darts.models.formats.base import Answer
    from darts.training.model import About

SHOWN = 5  # files that cannot be read, by name


class PredictCommand(Command):
    """Prints a class and its probability for every file; accuracy on standard error where folders name the classes."""

    name, place = "predict", 24
    help = "classes and probabilities of image files, from a trained network"
    words = "paths"
    usage = """usage: darts predict model=FILE|RUN_DIR IMAGE_OR_FOLDER_OR_CSV... [key=value ...]

  darts predict model=RUN_DIR/exports/model.onnx PHOTOS              a table on a terminal, else one JSON line an image
  darts predict model=model.safetensors one.jpg another.png top=3    the three likeliest classes of each
  darts predict model=model.onnx prices.csv                          what comes next in a series, for every line
"""

    def run(self, call: Call) -> int:
        from darts.models.predicting import files_of, open_answer, predict, predictor_of
        from darts.run.watching import watched

        settings = call.settings
        if settings["model"] is None:
            raise UserError("model: darts predict needs one; give model=FILE of darts export, or the folder of a run")
        if not call.words:
            raise UserError("darts predict: give images, or folders of them")
        for name in ("batch_size", "top"):
            if not isinstance(settings[name], int) or isinstance(settings[name], bool) or settings[name] < 1:
                raise UserError(f"{name}: got {settings[name]!r}; give 1 or more")
        about, answer = open_answer(Path(settings["model"]), settings["weights"], settings["plugins"])
        if about.takes == "series":
            return foretell(about, answer, [Path(word) for word in call.words], settings["batch_size"])
        predictor = predictor_of(about, answer)
        files, passed = files_of([Path(word) for word in call.words], predictor.about.classes)
        if not files:
            raise UserError(f"{', '.join(call.words)}: no images there")
        on_terminal = sys.stdout.isatty()
        width = max(len(str(asked.path)) for asked in files) if on_terminal else 0
        bad, right, labelled = [], 0, 0
        answers = predict(predictor, files, settings["batch_size"])
        for one in answers if on_terminal else watched(answers, len(files), "looking at images"):
            if one.problem:
                bad.append(f"{one.asked.path}: {one.problem}")
                continue
            label, probability = one.ranked[0]
            labelled += one.asked.label is not None
            right += one.asked.label == label
            if on_terminal:
                ranked = "  ".join(f"{name} {100 * sure:.1f}%" for name, sure in one.ranked[: settings["top"]])
                print(f"{one.asked.path!s:<{width}}  {ranked}")
                continue
            content = {"path": str(one.asked.path), "label": label, "probability": probability}
            if settings["top"] > 1:
                content["top"] = [list(pair) for pair in one.ranked[: settings["top"]]]
            print(json.dumps(content, ensure_ascii=False))
        if labelled:
            print(
                f"accuracy {100 * right / labelled:.2f}%  ({right:,} of {labelled:,} in folders of a class)",
                file=sys.stderr,
            )
        if passed:
            print(f"{_files(passed, 'other ')} passed by", file=sys.stderr)
        if bad:
            more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
            print(f"{_files(len(bad))} cannot be read: {'; '.join(bad[:SHOWN])}{more}", file=sys.stderr)
        return 0 if len(bad) < len(files) else 2


def foretell(about: About, answer: Answer, files: Sequence[Path], batch_size: int) -> int:
    """Print what a model foretells of series; its error on standard error, where the files know better.

    Raises:
        UserError: files that it cannot read.
    """
    from darts.models.forecasting import check_forecaster, forecasts

    check_forecaster(about)
    squares: list[float] = []
    deviation = dict(zip(about.inputs["columns"], about.inputs["deviation"], strict=True))
    for file in files:
        for one in forecasts(about, answer, file, batch_size):
            if sys.stdout.isatty():
                print(f"{one.path}:{one.line}  " + "  ".join(f"{name} {v:.6g}" for name, v in one.values.items()))
            else:
                print(json.dumps({"path": str(one.path), "line": one.line, "values": one.values}))
            squares += [((one.values[name] - true) / deviation[name]) ** 2 for name, true in one.truth.items()]
    if squares:
        error = sum(squares) / len(squares)
        print(
            f"mse {error:.4g} of {len(squares):,} values, in squared deviations of the training part", file=sys.stderr
        )
    return 0


def _files(count: int, kind: str = "") -> str:
    return f"{count:,} {kind}file{'' if count == 1 else 's'}"
