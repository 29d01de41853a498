"""The options of a command, read from its YAML files: for --help and for shell completion."""

from __future__ import annotations

import re

import yaml

from darts.cli import COMMANDS
from darts.config import defaults_of, group_choices
from darts.paths import config_dir

USAGE = {
    "search": """usage: darts search [key=value ...] [-m] [--config-dir FOLDER]

  darts search                                            digits, a few minutes, nothing to download
  darts search dataset=image_folder dataset.root=PHOTOS   your own images
  darts search method=darts_v1 dataset=cifar10 dataset.root=DATA dataset.download=true
  darts search resume=RUN_DIR                             go on where a run stopped
  darts search -m seed=0,1,2 run_dir=RUNS                 a sweep; each job in RUNS/seed=N
""",
    "baseline": """usage: darts baseline [key=value ...] [--config-dir FOLDER]

  darts baseline oracle.path=TABLE.csv                    regularized evolution, five seeds, 1,000 evaluations each
  darts baseline baseline=random_search seeds=0-499       another method, more seeds
  darts baseline evaluator.signal=cifar10/valid/12 budget.evaluations=100
  darts baseline resume=RUN_DIR                           go on where it stopped
""",
    "compare": """usage: darts compare RUN_DIR... [key=value ...]

  darts compare outputs/baseline/2026-11-22/* run_dir=comparison
  darts compare experiment=evolution_against_random oracle.path=TABLE.csv   a study: its runs are made first
  darts compare experiment=all_baselines seeds=0-9 oracle.path=TABLE.csv run_dir=STUDY

A folder of runs stands for all of them. The same command goes on where a study stopped, if run_dir is given.
""",
    "derive": """usage: darts derive run=RUN_DIR [epoch=K] [discretizer=NAME] [discretizer.KEY=VALUE]

Prints the cell string alone.
""",
    "query": """usage: darts query CELL... [format=json] [oracle.path=TABLE]
       darts query import=PATH output=FILE.npz

Cells are read from standard input if none are given. import converts the official files
NATS-tss-v1_0-3ffb9-simple (a folder) or NAS-Bench-201-v1_1-096897.pth once; oracle=nats reads the result.
""",
}


def command_help(command: str) -> str:
    """Usage, choices of every group with their first comment line, and all keys with their defaults."""
    text = (config_dir() / f"{command}.yaml").read_text(encoding="utf-8")
    primary = yaml.safe_load(text)
    lines = [USAGE[command], "choices (GROUP=NAME; several at once: GROUP=[A,B]):"]
    for group, default in defaults_of(primary).items():
        for file in group_choices(group, [config_dir()], command).values():
            chosen = file.stem in (default if isinstance(default, list) else [default])
            choice = f"{group}={file.stem}"
            lines.append(f"  {choice:<28}{'*' if chosen else ' '} {_summary(file.read_text('utf-8'))}")
    body = text[text.index("\n\n", text.index("defaults:")) :].strip("\n")
    lines += ["  (* default)", "", "keys (KEY=VALUE; nested ones with dots):"]
    lines += [f"  {line}" for line in body.splitlines() if line.strip()]
    lines.append("\nA choice's own keys are set the same way, such as weight_step.lr=0.05:")
    for group, default in defaults_of(primary).items():
        file = config_dir() / group / f"{default}.yaml"
        if isinstance(default, str) and file.is_file():
            keys = {key: value for key, value in yaml.safe_load(file.read_text("utf-8")).items() if key[0] != "_"}
            lines += [f"  {group}.{key}={_plain(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def complete(words: list[str], cursor: int) -> list[str]:
    """Words that can stand at position `cursor` of a command line."""
    word = words[cursor] if cursor < len(words) else ""
    if cursor <= 1:
        return [name for name in COMMANDS if name.startswith(word)]
    command = words[1] if len(words) > 1 else ""
    if command not in USAGE:
        return []
    from darts.config import options

    names = options(command, [config_dir()])
    group, equals, start = word.partition("=")
    if equals:
        return [
            f"{group}={choice}" for choice in group_choices(group, [config_dir()], command) if choice.startswith(start)
        ]
    return [f"{name}=" for name in names if name.startswith(word)]


def _summary(text: str) -> str:
    comments = re.findall(r"^# (?!@package)(.+)$", text, re.MULTILINE)
    return comments[0] if comments else ""


def _plain(value: object) -> str:
    if isinstance(value, list):
        return "[" + ",".join(map(str, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
