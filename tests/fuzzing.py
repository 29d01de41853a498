"""What reads texts and files of strangers, as functions of bytes: only our own errors may come out.

In the suite hypothesis feeds them (test_fuzz.py). `python tests/fuzzing.py NAME [SECONDS]` does it with atheris, which
is led by what code it reaches: `make fuzz` goes through all of them.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import io
import json
import os
import pkgutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SPACES = sorted(file.stem for file in (CONFIGS / "space").glob("*.yaml"))
CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"
SERIES = "time,load\n" + "".join(f"{step},{step % 7 / 3:.3f}\n" for step in range(40))
DATA = ["dataset=fake", "dataset.images=48", "dataset.image_size=4", "network.channels=2", "network.cells=1"]


@functools.cache
def space_of(name: str) -> Any:
    from darts.command.config import compose_config
    from darts.run.parts import build_one

    return build_one(compose_config("baseline", [f"space={name}"]), "space")


@functools.cache
def examples_folder() -> Path:
    """A search and a retraining of a second, and what was exported."""
    from darts.cli import main

    folder = Path(tempfile.mkdtemp(prefix="darts-fuzz-"))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        words = ["method=plain", "budget.epochs=1", "data.batch_size=8", "oracle=none", f"run_dir={folder / 'search'}"]
        assert main(["search", *DATA, *words]) == 0
        trained = ["recipe.epochs=2", "data.batch_size=8", f"run_dir={folder / 'model'}"]
        assert main(["retrain", f"cell={CELL}", *DATA, *trained]) == 0
        for name in ("safetensors", "onnx"):
            assert main(["export", f"run={folder / 'model'}", f"format={name}"]) == 0
        cells = ["evaluator=zero_cost", "evaluator.batch_size=8", "budget.evaluations=4", "seeds=[0,1]", "oracle=none"]
        assert main(["baseline", *DATA[:3], *cells, f"run_dir={folder / 'baseline'}"]) == 0
    return folder


@contextlib.contextmanager
def file_of(content: bytes, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        yield file


def genotype(name: str, content: bytes) -> None:
    space, text = space_of(name), content.decode("utf-8", "replace")
    with contextlib.suppress(ValueError):
        found = space.parse(text)
        assert space.parse(str(found)) == found


def command_line(content: bytes) -> None:
    from darts.cli import read
    from darts.run.errors import UserError

    words = content.decode("utf-8", "replace").split("\n")
    if "-m" in words or "--multirun" in words:  # that runs
        return
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            read(words)
        except UserError:
            pass
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:  # of which `main` makes a message
                raise


def table(content: bytes) -> None:
    from darts.oracle.csv import CsvOracle

    with file_of(content, "table.csv") as file, refusing():
        CsvOracle(str(file)).load(space_of("nas_bench_201"))


def series(content: bytes) -> None:
    from darts.tasks.datasets.series import CsvSeries

    with file_of(content, "series.csv") as file, refusing():
        CsvSeries(str(file), window=3, horizon=1).load(0.5)


def pickled(content: bytes) -> None:
    from darts.oracle.official import read_official

    with file_of(content, "NAS-Bench-201-v1_1-096897.pth") as file, refusing():
        read_official(file)


def checkpoint(content: bytes) -> None:
    from darts.run.checkpoint import load_checkpoint

    with file_of(content, "last.pt") as file, refusing():
        load_checkpoint(file)


def result(content: bytes) -> None:
    from darts.blackbox.result import BaselineResult
    from darts.search.result import SearchResult
    from darts.training.result import RetrainResult

    with file_of(content, "result.json") as file:
        for kind in (SearchResult, RetrainResult, BaselineResult):
            with refusing():
                kind.read(file)


def config(content: bytes) -> None:
    from darts.run.errors import configured
    from darts.run.folder import read_config
    from darts.search.build import build_search
    from darts.search.result import CONFIG_KEYS

    with file_of(content, "config.yaml") as file, refusing():
        settings = read_config(file.parent, "search", CONFIG_KEYS)
        with configured(file.parent, "search"):
            build_search(settings, None)


def model(content: bytes) -> None:
    from darts.models.formats.safetensors import read_safetensors

    with file_of(content, "model.safetensors") as file, refusing():
        read_safetensors(file, "model")


def program(content: bytes) -> None:
    """An ONNX file; one that is let through is run."""
    import torch

    from darts.models.predicting import open_answer

    with file_of(content, "model.onnx") as file, refusing():
        about, answer = open_answer(file)
        answer(torch.zeros(about.input_shape(2)))


def note(content: bytes) -> None:
    """What a file of a model says of itself, as of a file that can be read otherwise."""
    from darts.training.model import About

    with refusing():
        try:
            said = json.loads(content)
        except RecursionError:  # readers of formats have it
            return
        About.read(said, Path("model.onnx"), "model").check_classifier("darts predict")


def journal(content: bytes) -> None:
    """Lines as they are, and with the checksum that belongs to them."""
    from zlib import crc32

    from darts.blackbox.journal import read_answers
    from darts.blackbox.runs import RUNS, finished_runs

    summed = b"".join(b"%b\t%08x\n" % (line, crc32(line)) for line in content.splitlines())
    for lines in (content, summed):
        with file_of(lines, RUNS) as file:
            with refusing():
                read_answers(file)
            file.write_bytes(lines)
            with refusing():
                finished_runs(file.parent)


def prices(content: bytes) -> None:
    from supernet.price_table import PriceTable

    with file_of(content, "prices.json") as file, refusing():
        PriceTable.read(file).check(space_of("nas_bench_201"))


def column(content: bytes) -> None:
    from darts.blackbox.objectives.column import read_column

    with file_of(content, "table.csv") as file, refusing():
        read_column(file, "ms", space_of("nas_bench_201"))


def image(content: bytes) -> None:
    from darts.tasks.datasets.decoding import BadImage, decode

    with file_of(content, "image") as file, contextlib.suppress(BadImage):
        assert decode(file, 8)[0].shape == (3, 8, 8)


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Parts say a ValueError, which commands put the option's name before."""
    from darts.run.errors import UserError

    with contextlib.suppress(UserError, ValueError):
        yield


TARGETS: dict[str, Callable[[bytes], None]] = {
    **{f"genotype-{name}": functools.partial(genotype, name) for name in SPACES},
    "command-line": command_line, "table": table, "series": series, "pickled": pickled,
    "checkpoint": checkpoint, "result": result, "config": config, "model": model, "onnx": program, "note": note,
    "journal": journal, "prices": prices, "column": column, "image": image,
}  # fmt: skip


def seeds(name: str) -> list[bytes]:
    """Inputs that are right, to begin with."""
    import pickle
    import random

    if name.startswith("genotype-"):
        space, rng = space_of(name.partition("-")[2]), random.Random(name)
        return [str(space.sample(rng)).encode() for _ in range(5)]
    if name == "command-line":
        return [
            b"search\nmethod=darts_v1\nseed=1\nphases.warm_up.share=2",
            f"query\n{CELL}".encode(),
            b"compare\na\n--help",
        ]
    if name == "table":
        return [f"index,cell,cifar10_valid_12,cifar10_test_200\n4,{CELL},50,90.5\n".encode()]
    if name == "series":
        return [SERIES.encode()]
    if name == "pickled":
        records = [
            pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {"a": [1.5]})
        ]
        return [b"".join(records)]
    if name == "column":
        return [f"cell,ms\n{CELL},1.5\n".encode()]
    if name == "image":
        return images()
    if name == "prices":
        return [prices_of(space_of("nas_bench_201"))]
    folder = examples_folder()
    if name == "journal":
        return lines_of(folder / "baseline")
    if name == "note":
        return [note_of(folder / "model/exports/model.safetensors")]
    files = {
        "checkpoint": ["search/checkpoints/last.pt"], "model": ["model/exports/model.safetensors"],
        "onnx": ["model/exports/model.onnx"],
        "result": ["search/result.json", "model/result.json", "baseline/result.json"], "config": ["search/config.yaml"],
    }  # fmt: skip
    return [(folder / file).read_bytes() for file in files[name]]


def images() -> list[bytes]:
    from PIL import Image

    found, picture = [], Image.radial_gradient("L").resize((24, 18)).convert("RGB")
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "TGA", "PCX", "SGI"):
        with io.BytesIO() as stream:
            picture.save(stream, kind)
            found.append(stream.getvalue())
    return found


def prices_of(space: Any) -> bytes:
    rows = [[0.5] * len(space.candidates) for _ in space.edge_names]
    about = {"beside": 2.0, "counts": "all", "name": "latency", "unit": "ms", "prices_EO": rows}
    return json.dumps({"candidates": list(space.candidates), "edges": list(space.edge_names), **about}).encode()


def lines_of(run: Path) -> list[bytes]:
    """A line of answers and one of runs."""
    answer = [CELL, 1, [50.0, 1, [50.0]], 12.0, 1.5]
    return [json.dumps(one).encode() for one in (answer, json.loads((run / "result.json").read_text())["runs"][0])]


def note_of(model: Path) -> bytes:
    from darts.models.formats.safetensors import NOTE

    with model.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        return str(json.loads(stream.read(size))["__metadata__"][NOTE]).encode()


def main(name: str, seconds: int) -> None:
    """Feed a target until the time is up, or an error comes out, which ends the process with its traceback."""
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["darts", "supernet"]):
        for package in ("darts", "supernet"):
            for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
                if module.name != "darts.__main__":
                    importlib.import_module(module.name)
    corpus = Path(tempfile.mkdtemp(prefix="darts-corpus-"))
    for number, one in enumerate(seeds(name)):
        (corpus / str(number)).write_bytes(one)
    limits = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=6000", "-max_len=262144", "-verbosity=1"]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    os.chdir(tempfile.mkdtemp(prefix="darts-fuzz-"))  # what crashed is kept there
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        raise SystemExit(f"give one of: {', '.join(TARGETS)}")
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 60)
