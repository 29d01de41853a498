"""The command `darts predict`: what a trained network says of image files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from darts.command.base import Call, Command
from darts.run.errors import UserError

SHOWN = 5  # files that cannot be read, by name


class PredictCommand(Command):
    """Prints a class and its probability for every file; accuracy on standard error where folders name the classes."""

    name, place = "predict", 24
    help = "classes and probabilities of image files, from a trained network"
    words = "paths"
    usage = """usage: darts predict model=FILE|RUN_DIR IMAGE_OR_FOLDER... [key=value ...]

  darts predict model=RUN_DIR/exports/model.onnx PHOTOS              a table on a terminal, else one JSON line an image
  darts predict model=model.safetensors one.jpg another.png top=3    the three likeliest classes of each
"""

    def run(self, call: Call) -> int:
        from darts.models.predicting import files_of, open_predictor, predict
        from darts.run.watching import watched

        settings = call.settings
        if settings["model"] is None:
            raise UserError("model: darts predict needs one; give model=FILE of darts export, or the folder of a run")
        if not call.words:
            raise UserError("darts predict: give images, or folders of them")
        for name in ("batch_size", "top"):
            if not isinstance(settings[name], int) or isinstance(settings[name], bool) or settings[name] < 1:
                raise UserError(f"{name}: got {settings[name]!r}; give 1 or more")
        predictor = open_predictor(Path(settings["model"]), settings["weights"], settings["plugins"])
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


def _files(count: int, kind: str = "") -> str:
    return f"{count:,} {kind}file{'' if count == 1 else 's'}"
