"""Which module may import which, read from the syntax trees; and what starting up may load."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for package in ("darts", "supernet")
    for file in sorted((ROOT / package).rglob("*.py"))
}
# Every room of the house, and those below it that its files may enter.
ROOMS = {
    "__main__": "cli",
    "api": "command models blackbox search training run",
    "cli": "command run",
    "command": "report models compare blackbox search training tasks oracle run supernet",
    "report": "models compare blackbox search training tasks oracle run supernet",
    "models": "search training tasks run supernet",
    "compare": "blackbox search tasks oracle run supernet",
    "blackbox": "search training tasks oracle run supernet",
    "search": "training tasks run supernet",
    "training": "tasks run supernet",
    "tasks": "run supernet",
    "oracle": "run supernet",
    "run": "",
    "supernet": "",
}
PLUG_INS = sorted({name.removesuffix(".base") for name in MODULES if name.endswith(".base")})
PARTS = sorted(set(PLUG_INS) - {"darts.command"})
HYDRA = {"darts.run.parts", "darts.command.config", "darts.command.sweep"}
# A concrete part that code outside its folder names, with the reason.
NAMED_PARTS = {
    ("darts.command.query", "darts.oracle.nats"): "darts query import=... writes the file that this oracle reads",
    ("darts.command.query", "darts.oracle.official"): "darts query import=... reads the benchmark's official files",
    ("darts.search.regularizers.dirichlet_anchor", "supernet.relaxations.dirichlet"): "it anchors the concentrations",
    ("darts.oracle.base", "supernet.spaces.cells"): "published tables are of NAS-Bench-201",
    ("darts.models.opening", "darts.models.formats.safetensors"): "such files are models that can be gone on with",
    ("darts.models.predicting", "darts.models.formats.onnx"): "darts predict runs such files",
    ("darts.models.quantizing", "darts.models.formats.onnx"): "such files are what is quantised",
}
# Modules beside parts that are none.
NO_PARTS = {
    "darts.tasks.build",
    "darts.tasks.batches",
    "darts.tasks.final",
    "darts.tasks.sizes",
    "darts.tasks.datasets",
    "darts.tasks.datasets.decoding",
    "darts.tasks.datasets.numbers",
    "darts.tasks.datasets.reading",
    "darts.tasks.datasets.windows",
}
# Modules that may know what a cell of NAS-Bench-201 looks like; everybody else asks the space.
OF_CELLS = {"supernet.genotype", "supernet.spaces.cells", "supernet.spaces.hierarchical", "supernet.cost"}
# Modules above the cap of 300 lines, with the reason.
LONG: dict[str, str] = {}


@cache
def imports_of(name: str) -> set[str]:
    """Everything a module imports anywhere, absolute: `from a import b` counts as a and as a.b."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    package = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*parents, *([node.module] if node.module else [])])
            found |= {source} | {f"{source}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            found |= {
                arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
            }
    return found


def ours(name: str) -> set[str]:
    """Modules of the project that a module imports."""
    return {imported for imported in imports_of(name) if imported in MODULES}


def tops(name: str) -> set[str]:
    return {imported.split(".")[0] for imported in imports_of(name)}


def room(name: str) -> str:
    """The second part of a name of `darts`; `supernet` is one room; nothing for `darts` itself, which has a version."""
    return "supernet" if name.startswith("supernet") else ".".join(name.split(".")[1:2])


def reachable(start: set[str]) -> set[str]:
    """Whatever these modules import, directly or not."""
    reached: set[str] = set()
    waiting = set(start)
    while waiting:
        found = ours(waiting.pop()) - reached
        reached |= found
        waiting |= found
    return reached


def test_the_walk_sees_imports_at_the_top_inside_functions_and_relative(tmp_path: Path) -> None:
    assert {"darts.cli", "darts.search.loop", "supernet.cell", "supernet.relaxations.softmax"} <= MODULES.keys()
    assert {"darts.oracle", "darts.search.monitors", "darts.tasks.datasets", "supernet.relaxations"} <= set(PARTS)
    MODULES["darts.probe.mine"] = tmp_path / "mine.py"
    try:
        MODULES["darts.probe.mine"].write_text(
            "import a.b\nfrom .. import search\nfrom . import base\n"
            "def f():\n    from c import d\n    __import__('e')\n"
        )
        assert {"a.b", "darts.search", "darts.probe.base", "c.d", "e"} <= imports_of("darts.probe.mine")
    finally:
        del MODULES["darts.probe.mine"]


def test_every_module_has_a_room_and_the_rooms_are_stacked() -> None:
    assert {room(name) for name in MODULES} - {""} == ROOMS.keys()
    floors = list(ROOMS)
    for name, below in ROOMS.items():
        assert set(below.split()) <= set(floors[floors.index(name) + 1 :])


@pytest.mark.parametrize("name", MODULES)
def test_arrows_between_rooms_run_down(name: str) -> None:
    entered = {room(imported) for imported in ours(name)} - {room(name), ""}
    assert entered <= set(ROOMS.get(room(name), "").split())


def test_no_module_imports_itself_in_a_circle() -> None:
    """Nor for annotations alone."""
    assert [name for name in MODULES if name in reachable({name})] == []


def test_no_command_imports_another() -> None:
    helpers = {"base", "words", "config", "help", "quoting", "several", "sweep"}
    commands = {name for name in MODULES if room(name) == "command" and name.count(".") == 2}
    commands = {name for name in commands if name.split(".")[2] not in helpers}
    assert {"darts.command.search", "darts.command.baseline", "darts.command.compare"} <= commands
    assert [name for name in MODULES if (ours(name) & commands) - {name}] == []


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("supernet")])
def test_the_mathematics_imports_torch_and_itself_alone(name: str) -> None:
    assert tops(name) <= {"torch", "supernet", *sys.stdlib_module_names}


@pytest.mark.parametrize("name", MODULES)
def test_hydra_stays_where_configs_are_composed_and_nothing_imports_tests(name: str) -> None:
    assert name in HYDRA or not tops(name) & {"hydra", "omegaconf", "antlr4"}
    assert not tops(name) & {"tests", "benchmarks", "conftest", "pytest", "hypothesis"}
    assert not tops(name) & {"analognasbench"}, "a third party's table is read, its package never imported"
    assert name == "darts.run.parts" or not {i for i in imports_of(name) if i.rsplit(".", 1)[-1] == "instantiate"}


@pytest.mark.parametrize("name", [name for name in MODULES if name not in PARTS])
def test_concrete_parts_are_named_by_yaml_alone(name: str) -> None:
    for folder in PARTS:
        if name.startswith(f"{folder}."):
            continue
        nested = tuple(f"{other}." for other in PARTS if other.startswith(f"{folder}."))
        concrete = {i for i in ours(name) if i.startswith(f"{folder}.") and not i.startswith(nested or ("-",))}
        assert concrete - NO_PARTS - {f"{folder}.base"} <= {module for user, module in NAMED_PARTS if user == name}


def test_named_exceptions_are_still_needed() -> None:
    assert all(module in imports_of(user) for user, module in NAMED_PARTS)
    assert all(len(MODULES[name].read_text(encoding="utf-8").splitlines()) > 300 for name in LONG)


def test_nothing_in_a_search_can_name_the_table_of_known_accuracies() -> None:
    """The loop, whatever it imports, every part that it calls, and black-box methods: none reaches darts.oracle."""
    parts = tuple(f"{folder}." for folder in PARTS if folder not in ("darts.oracle", "darts.blackbox.evaluators"))
    start = {"darts.search.loop", *(name for name in MODULES if name.startswith(parts))}
    reached = start | reachable(start)
    some = {"darts.search.state", "darts.tasks.classification", "supernet.network", "darts.search.monitors.progress"}
    assert some <= reached
    assert not {name for name in reached if name.startswith(("darts.oracle", "darts.report"))}


@pytest.mark.parametrize("name", sorted(MODULES.keys() - OF_CELLS))
def test_nobody_looks_into_a_genotype_or_counts_the_cells_of_one_space(name: str) -> None:
    """Genotypes belong to their space. A regularizer names its own argument `operations`."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    read = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "operations"]
    assert all(isinstance(node.value, ast.Name) and node.value.id == "self" for node in read)
    numbers = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert not numbers & {15625, 6466, "15,625"}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_at_most_300_lines(name: str) -> None:
    lines = len(MODULES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= 300 or name in LONG, f"{name} has {lines} lines"


@pytest.mark.parametrize(
    "code",
    [
        "import darts",
        "import darts.cli",
        "import supernet, supernet.genotype, supernet.spaces.cells",
        "from darts.cli import main; assert main(['--help']) == 0",
        "from darts.cli import main; assert main(['search', '--help']) == 0",
        "from darts.cli import main; assert main(['derive', '--help']) == 0",
        "from darts.cli import main; assert main(['query', '--help']) == 0",
        "from darts.cli import main; assert main(['completion', '--words', '2', 'darts', 'search', 'data']) == 0",
        "from darts.cli import main; assert main(['relaxation=softmax']) == 2",
    ],
)
def test_starting_up_loads_no_torch(code: str) -> None:
    check = f"import sys\n{code}\nassert not {{'torch', 'torchvision', 'numpy', 'matplotlib'}} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_list_of_commands_needs_nothing_but_the_standard_library() -> None:
    """That is why it answers within half a second."""
    code = "import sys; from darts.cli import main; main(['--help']); print({m.split('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(re.findall(r"'(\w+)'", done.stdout.splitlines()[-1]))
    assert not loaded & {"torch", "numpy", "hydra", "omegaconf", "yaml", "rich", "jinja2"}
