"""The command as users meet it, from empty folders; in this process, but where a process proves something."""

from __future__ import annotations

import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import yaml

from darts.cli import main
from darts.search.arch_steps.first_order import FirstOrder
from darts.search.weight_steps.sgd import SGDStep
from supernet.operations import OPERATIONS
from supernet.spaces.cells import CellSpace

ROOT = Path(__file__).resolve().parents[3]
TINY = ["dataset=fake", "network.channels=2", "data.batch_size=32", "method=plain", "monitor=[]", "oracle=none"]
SMALL = [*TINY, "space.num_nodes=2", "budget.steps=2"]
AWKWARD = "runs of (é), 'mine' = \"x\" # 1 ~"
WHOLE = f"{AWKWARD} ${{y}}"
Command = Callable[..., subprocess.CompletedProcess[str]]
Done = subprocess.CompletedProcess[str]
Ended = dict[str, tuple[Path, Done]]


def documented_package(folder: Path) -> Path:
    """The example of docs/extending.md, written to files as it stands there; returns the folder for PYTHONPATH."""
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    files = re.findall(r"^`(my_pkg/[\w./]+)`[^\n]*\n\n```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert {name.rsplit(".", 1)[-1] for name, _ in files} == {"py", "yaml"}
    for name, content in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@contextmanager
def visiting(package: Path) -> Iterator[None]:
    """The documented package can be imported; afterwards nothing is left of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(package)
        patch.setattr("supernet.operations.OPERATIONS", dict(OPERATIONS))  # the plug-in registers into it
        try:
            yield
        finally:
            for name in [name for name in sys.modules if name.split(".")[0] == "my_pkg"]:
                del sys.modules[name]


PLUG_IN = ["plugins=[my_pkg]", "relaxation=sharp", "relaxation.factor=8", "space=with_max_pool"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Searches in this process, each from an empty folder of its own."""
    root = tmp_path_factory.mktemp("done")
    package = documented_package(tmp_path_factory.mktemp("package"))
    lines = {
        "sweep": ["search", "-m", *SMALL, "seed=0,1", f"run_dir={AWKWARD}"],
        "whole": ["search", *TINY[:3], "budget.steps=5", f"run_dir={WHOLE}"],
        "plug-in": ["search", *TINY, *PLUG_IN, "budget.steps=3", "run_dir=X"],
    }

    ended = {}
    for name, words in lines.items():
        (folder := root / name).mkdir()
        out, errors = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors), visiting(package):
            status = in_process(words, folder, patch)
        ended[name] = folder, subprocess.CompletedProcess(words, status, out.getvalue(), errors.getvalue())
    return ended


def result_of(folder: Path) -> dict[str, object]:
    result: dict[str, object] = json.loads((folder / "result.json").read_text())
    return result


# --- words --------------------------------------------------------------------------------------------------


def test_settings_without_a_command_explain_themselves(darts: Command) -> None:
    ended = darts("relaxation=softmax", "run_dir=a b")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "command" in ended.stderr
    assert "darts search relaxation=softmax" in ended.stderr


@pytest.mark.parametrize("word", ["serach", "train", "-m", "Search"])
def test_an_unknown_command_names_those_that_exist(word: str, darts: Command) -> None:
    ended = darts(word, "seed=1")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert all(name in ended.stderr for name in (word, "search", "derive", "query"))
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_without_words_or_with_help_the_commands_are_listed(words: tuple[str, ...], darts: Command) -> None:
    ended = darts(*words)
    assert (ended.returncode, ended.stderr) == (0, "")
    for part in ("darts COMMAND", "search", "derive", "query", "--help", "-m"):
        assert part in ended.stdout


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (
            "search",
            ["resume=", "seed", "budget", "network", "relaxation=softmax", "dataset=digits", "weight_step.lr=0.025",
             "method=darts_v1", "engine", "plugins", "--config-dir", "-m", "oracle=csv", "split"],
        ),
        ("derive", ["run=", "epoch", "discretizer=argmax"]),
        ("query", ["CELL", "format=json", "import=", "output=", "oracle.path", "oracle=nats"]),
    ],
)  # fmt: skip
def test_every_command_explains_its_options(command: str, parts: list[str], darts: Command) -> None:
    for words in ((command, "--help"), (command, "-h"), (command, "seed=1", "--help")):
        ended = darts(*words)
        assert (ended.returncode, ended.stderr) == (0, "")
    assert [part for part in parts if part not in ended.stdout] == []
    assert max(map(len, ended.stdout.splitlines())) <= 140
    choices = sorted((ROOT / "configs").glob("*/*.yaml"))
    assert choices
    for file in choices:
        if command == "search" and file.parent.name in ("relaxation", "dataset", "method", "regularizer", "monitor"):
            assert f"{file.parent.name}={file.stem} " in ended.stdout


def test_the_list_of_commands_needs_nothing_heavy() -> None:
    script = "import sys; from darts.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "darts COMMAND" in ended.stdout
    loaded = {name.split(".")[0] for name in ended.stderr.split()}
    assert "darts" in loaded
    assert loaded & {"torch", "hydra", "omegaconf", "yaml", "numpy", "scipy", "matplotlib", "optuna", "jinja2"} == set()


def test_version(darts: Command) -> None:
    ended = darts("--version")
    assert re.fullmatch(r"darts \d+\.\d+\.\d+\S*\n", ended.stdout)


# --- completion ---------------------------------------------------------------------------------------------


@pytest.fixture
def completed(console: list[str], tmp_path: Path) -> Callable[..., list[str]]:
    """What bash offers after these words, through the script that `darts completion` prints."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "darts").write_text(f'#!/bin/sh\nexec {shlex.join(console)} "$@"\n')
    (tmp_path / "bin" / "darts").chmod(0o755)
    script = (
        'set -e; source <(darts completion); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        'complete -p darts | grep -q -- "-F" ; '
        'name=$(complete -p darts | sed "s/.*-F \\([^ ]*\\).*/\\1/"); $name || true; printf "%s\\n" "${COMPREPLY[@]}"'
    )

    def complete(*words: str) -> list[str]:
        ended = subprocess.run(
            ["bash", "--norc", "-c", script, "bash", "darts", *words],
            env=os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=True,
        )
        return ended.stdout.split()

    return complete


def test_completion_offers_commands_options_and_choices(completed: Callable[..., list[str]]) -> None:
    assert {"search", "derive", "query"} <= set(completed(""))
    assert completed("search", "relaxation=s") == [f"relaxation=s{end}" for end in ("igmoid", "ingle_path", "oftmax")]
    assert completed("search", "seed=1", "dataset=fa") == ["dataset=fake", "dataset=fashion_mnist"]
    assert completed("search", "weight_step.grad") == ["weight_step.grad_clip="]
    assert {"budget.epochs=", "budget.seconds="} <= set(completed("search", "budget."))
    assert completed("derive", "ep") == ["epoch="]
    assert completed("query", "for") == ["format="]
    assert completed("query", "se") == []
    assert {f"oracle={name}" for name in ("auto", "csv", "analog", "nats", "none")} == set(
        completed("query", "oracle=")
    )


def test_completion_is_one_script_that_bash_accepts(darts: Command) -> None:
    ended = darts("completion")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("complete -F") == 1
    checked = subprocess.run(["bash", "-n"], input=ended.stdout, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert darts("completion", "fish").returncode == 2


# --- searches -----------------------------------------------------------------------------------------------


def test_a_run_folder_with_an_awkward_name_works_from_end_to_end(
    done: Ended, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, ended = done["whole"]
    assert (ended.returncode, [path.name for path in folder.iterdir()]) == (0, [WHOLE])
    result = result_of(folder / WHOLE)
    assert str(result["cell"]) in ended.stdout
    assert CellSpace().parse(str(result["cell"]))
    assert list((folder / WHOLE / "tensorboard").glob("events.out.tfevents.*"))
    assert "\x1b" not in ended.stdout + ended.stderr, "plain lines where the output is no terminal"
    assert "epoch" in ended.stderr
    assert "5/5" in ended.stderr
    monkeypatch.chdir(folder)
    capfd.readouterr()
    assert main(["derive", f"run={WHOLE}"]) == 0
    assert capfd.readouterr().out == f"{result['cell']}\n"
    assert main(["search", f"resume={WHOLE}"]) == 0
    assert str(result["cell"]) in capfd.readouterr().out


def test_a_half_step_is_few_frames_below_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From `main` to the half-step, both counted: whoever reads the search from its top has four calls to follow."""
    found: dict[type, list[str]] = {}

    def watched(kind: type) -> None:
        taken = kind.__call__  # type: ignore[operator]

        def half_step(*arguments: object) -> object:
            stack = [Path(frame.filename).name for frame in inspect.stack(context=0)]
            found[kind] = stack[: stack.index("cli.py") + 1]
            return taken(*arguments)

        monkeypatch.setattr(kind, "__call__", half_step)

    watched(FirstOrder)
    watched(SGDStep)
    assert main(["search", *SMALL, f"run_dir={tmp_path / 'run'}"]) == 0
    assert found.keys() == {FirstOrder, SGDStep}
    assert max(map(len, found.values())) <= 5, found


def test_the_report_names_what_the_issue_asks_for(done: Ended) -> None:
    folder, ended = done["whole"]
    result = result_of(folder / WHOLE)
    for part in (f"{result['params']:,}", "FLOPs", "supernet accuracy", "time", "files", WHOLE):
        assert part in ended.stdout
    if result["oracle"] is not None:
        assert "searched on fake; known accuracy is of CIFAR-10, table analog-cifar10" in ended.stdout


def test_a_sweep_gives_each_job_its_folder_and_its_seed(done: Ended) -> None:
    folder, ended = done["sweep"]
    assert ended.returncode == 0, ended.stderr
    assert [path.name for path in folder.iterdir()] == [AWKWARD]
    assert {path.name for path in (folder / AWKWARD).iterdir() if path.is_dir()} == {"seed=0", "seed=1"}
    results = [result_of(folder / AWKWARD / f"seed={seed}") for seed in (0, 1)]
    assert [result["seed"] for result in results] == [0, 1]
    assert results[0]["alphas"] != results[1]["alphas"]
    for seed in (0, 1):
        stored = yaml.safe_load((folder / AWKWARD / f"seed={seed}" / "config.yaml").read_text())
        assert (stored["seed"], stored["budget"]["epochs"], stored["budget"]["steps"]) == (seed, None, 2)


@pytest.mark.slow
def test_a_job_of_a_sweep_equals_the_single_run(done: Ended, tmp_path: Path) -> None:
    assert main(["search", *SMALL, "seed=1", f"run_dir={tmp_path / 'run'}"]) == 0
    swept, single = result_of(done["sweep"][0] / AWKWARD / "seed=1"), result_of(tmp_path / "run")
    assert {k: v for k, v in swept.items() if k not in ("seconds", "timing")} == {
        k: v for k, v in single.items() if k not in ("seconds", "timing")
    }


def in_process(words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """A sweep in this process; Hydra reads sys.argv."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["darts"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    return main(words)


def test_a_sweep_over_choices_goes_on_after_jobs_that_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", "-m", *SMALL, "arch_step=first_order,unrolled", "weight_step.lr=-1,0.1", "run_dir=X"]
    assert in_process(words, tmp_path, monkeypatch) == 2
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    images = {path.parent.name: result_of(path.parent)["images"] for path in (tmp_path / "X").glob("*/result.json")}
    assert images == {
        "arch_step=first_order,weight_step.lr=0.1": 2 * 2 * 32,
        "arch_step=unrolled,weight_step.lr=0.1": 2 * 5 * 32,
    }
    for name in ("first_order", "unrolled"):
        job = f"arch_step={name},weight_step.lr=-1"
        assert any(job in line and "got -1" in line for line in errors.splitlines()), "every failed job, its reason"


def test_a_sweep_that_is_started_again_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Jobs that are finished are reported again, one without a result is resumed, other settings are refused."""
    words = ["search", "-m", *SMALL, "seed=0,1", "run_dir=X"]
    assert in_process(words, tmp_path, monkeypatch) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "X").rglob("*") if path.is_file()}
    (tmp_path / "X/seed=1/result.json").unlink()
    capsys.readouterr()
    assert in_process(words, tmp_path, monkeypatch) == 0
    assert result_of(tmp_path / "X/seed=0")["cell"] in capsys.readouterr().out
    after = {path: path.read_bytes() for path in (tmp_path / "X/seed=0").rglob("*") if path.is_file()}
    assert {path: content for path, content in before.items() if path in after} == after
    assert result_of(tmp_path / "X/seed=1")["steps"] == 2
    assert in_process([*words, "weight_step.lr=0.5"], tmp_path, monkeypatch) == 2
    assert "holds a run with other settings (weight_step.lr is 0.5, was " in capsys.readouterr().err
    assert in_process([*words[:-1], "run_dir="], tmp_path, monkeypatch) == 2
    assert "run_dir: got an empty name" in capsys.readouterr().err


def test_a_sweep_without_a_run_folder_stays_in_the_default_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert in_process(["search", "-m", *SMALL, "seed=7,8"], tmp_path, monkeypatch) == 0
    found = sorted(path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("result.json"))
    assert [re.sub(r"\d\d(\d\d)?-\d\d-\d\d", "NOW", name) for name in found] == [
        f"outputs/search/NOW/NOW/seed={seed}" for seed in (7, 8)
    ]


@pytest.mark.slow
def test_a_sweep_folder_may_hold_what_looks_like_an_interpolation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert in_process(["search", "-m", *SMALL, "seed=7,8", "run_dir=a ${b}, c"], tmp_path, monkeypatch) == 0
    assert (tmp_path / "a ${b}, c" / "seed=7" / "result.json").is_file()


def test_an_interrupted_sweep_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "plugins" / "ctrl_c"
    (package / "configs" / "monitor").mkdir(parents=True)
    (package / "configs" / "monitor" / "ctrl_c.yaml").write_text("# @package monitor.ctrl_c\n_target_: ctrl_c.CtrlC\n")
    (package / "__init__.py").write_text(
        "import signal\nfrom darts.search.monitors.base import Monitor\n\n\nclass CtrlC(Monitor):\n"
        "    def on_step(self, search, numbers):\n        signal.raise_signal(signal.SIGINT)\n"
    )
    monkeypatch.syspath_prepend(package.parent)
    words = ["search", "-m", *SMALL, "plugins=[ctrl_c]", "monitor=ctrl_c", "seed=0,1", "run_dir=X"]
    assert in_process(words, tmp_path, monkeypatch) == 130
    assert not (tmp_path / "X" / "seed=1").exists()
    assert (tmp_path / "X" / "seed=0" / "checkpoints" / "last.pt").exists()


def test_mistakes_in_a_sweep_are_found_before_its_first_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {"sed=0,1": "sed", "relaxation=softmax,gumble": "gumble", "seed=0,1 dataset=fak": "fak"}
    for words, part in ((text.split(), part) for text, part in wrong.items()):
        assert in_process(["search", "-m", *SMALL, "run_dir=X", *words], tmp_path, monkeypatch) == 2
        captured = capsys.readouterr()
        assert (part in captured.err, captured.out) == (True, "")
        assert "Traceback" not in captured.err
    assert not list(tmp_path.rglob("config.yaml"))


# --- parts from outside -------------------------------------------------------------------------------------


def test_the_documented_plug_in_is_searched_with(done: Ended) -> None:
    folder, ended = done["plug-in"]
    assert ended.returncode == 0, ended.stderr
    result = result_of(folder / "X")
    operations = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "max_pool_5x5"]
    assert CellSpace(4, operations).parse(str(result["cell"]))
    stored = yaml.safe_load((folder / "X" / "config.yaml").read_text())
    assert (stored["relaxation"]["_target_"], stored["relaxation"]["factor"]) == ("my_pkg.Sharp", 8)
    assert stored["space"]["operations"] == operations
    assert [len(row) for row in result["alphas"]["alpha_EO"]] == [6] * 6  # type: ignore[index]


def test_the_documented_command_stands_beside_the_others(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    package = documented_package(tmp_path / "package")

    def said(status: int, *words: str) -> str:
        capfd.readouterr()
        assert main(list(words)) == status
        return capfd.readouterr()[status > 0]

    def completed(*words: str) -> list[str]:
        return said(0, "completion", "--words", str(len(words)), "darts", *words, "plugins=[my_pkg]").split()

    listed = said(0, "--help").splitlines()
    assert "unknown command 'count'" in said(2, "count")
    with visiting(package):
        assert set(said(0, "--help", "plugins=[my_pkg]").splitlines()) - set(listed) == {
            "  count       how many cells a space has"
        }
        assert said(0, "count", "plugins=[my_pkg]") == "15625\n"
        assert said(0, "count", "plugins=[my_pkg]", "space=with_max_pool") == f"{6**6}\n"
        explained = said(0, "count", "--help", "plugins=[my_pkg]")
        assert explained.startswith("usage: darts count [space=NAME]\n")
        assert all(part in explained for part in ("space=nas_bench_201", "space=with_max_pool", "plugins: []"))
        assert completed("co") == ["compare", "completion", "count"]
        assert completed("count", "spa")[0] == "space="
        assert completed("count", "space=wi") == ["space=with_max_pool"]
        assert "unknown option 'spce'; did you mean space?" in said(2, "count", "plugins=[my_pkg]", "spce=x")


def test_a_run_with_a_plug_in_asks_for_it_again(
    done: Ended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = done["plug-in"][0] / "X"
    assert yaml.safe_load((folder / "config.yaml").read_text())["plugins"] == ["my_pkg"]
    monkeypatch.syspath_prepend(documented_package(tmp_path))
    longer = ["search", f"resume={folder}", "budget.steps=5", "extend=true"]
    again = ["derive", f"run={folder}", "discretizer=argmax"]
    for words in (again, longer):
        assert main(words) == 2
        assert "plugins=[my_pkg]" in capfd.readouterr().err
    assert main(["derive", f"run={folder}"]) == 0
    assert capfd.readouterr().out == f"{result_of(folder)['cell']}\n", "the cell that stands there needs no part"
    assert "my_pkg" not in sys.modules, "what a run folder says about plug-ins is never believed"
    monkeypatch.setattr("supernet.operations.OPERATIONS", dict(OPERATIONS))  # the plug-in registers into it
    try:
        assert main([*again, "plugins=[my_pkg]"]) == 0
        assert capfd.readouterr().out == f"{result_of(folder)['cell']}\n"
        assert main([*longer, "plugins=[my_pkg]"]) == 0
        assert (result_of(folder)["steps"], result_of(folder)["planned_steps"]) == (5, 5)
    finally:
        sys.modules.pop("my_pkg", None)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. can't allocate memory: you ..."),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_memory_at_its_end_is_a_message(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: object) -> int:
        raise error

    monkeypatch.setattr("darts.command.query.QueryCommand.run", run)
    assert main(["query", "x"]) == 2
    assert "darts: there is not enough memory (" in capsys.readouterr().err


SHORT_OF_MEMORY = """
import resource, sys
import torch.utils.tensorboard
from darts.cli import main

pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 2**30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux says how much memory it has")
def test_a_step_that_does_not_fit_ends_with_the_keys_to_change(tmp_path: Path) -> None:
    """A gigabyte more than what was taken at the start."""
    words = ["search", "method=plain", "dataset=fake", "dataset.images=1024", "dataset.image_size=32", "oracle=none"]
    words += ["network.channels=64", "network.cells=1", "data.batch_size=512", f"run_dir={tmp_path / 'run'}"]
    line = [sys.executable, "-c", SHORT_OF_MEMORY, *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 2, done.stderr
    assert "darts: there is not enough memory (" in done.stderr
    assert "give a smaller data.batch_size (auto finds one" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_errors_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> int:
        raise RuntimeError("a defect")

    monkeypatch.setattr("darts.command.query.QueryCommand.run", run)
    with pytest.raises(RuntimeError, match="a defect"):
        main(["query", "x"])


@pytest.mark.parametrize("words", [["compare", ""], ["search", "resume="], ["search", "run_dir="], ["export", "run="]])
def test_a_name_that_no_file_can_have_is_refused(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    *before, last = words
    assert main([*before, f"{last}{'9' * 5000}"]) == 2
    assert "File name too long; give a shorter one" in capfd.readouterr().err
