"""Which module may import which, read from the syntax trees; and what starting up may load."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for package in ("darts", "supernet")
    for file in sorted((ROOT / package).rglob("*.py"))
}
PLUG_INS = sorted({name.removesuffix(".base") for name in MODULES if name.endswith(".base")})
HYDRA = {"darts.cli", "darts.parts", "darts.config"}
# A concrete plug-in that code outside its folder names, with the reason.
NAMED_PLUG_INS = {
    ("darts.querying", "darts.oracle.nats"): "darts query import=... writes the file that this oracle reads",
    ("darts.querying", "darts.oracle.official"): "darts query import=... reads the benchmark's official files",
}
# Modules above the cap of 300 lines, with the reason.
LONG: dict[str, str] = {}


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


def tops(name: str) -> set[str]:
    return {imported.split(".")[0] for imported in imports_of(name)}


def test_the_walk_sees_imports_at_the_top_inside_functions_and_relative(tmp_path: Path) -> None:
    assert {"darts.cli", "darts.search_loop", "supernet.cell", "supernet.relaxations.softmax"} <= MODULES.keys()
    assert {"darts.oracle", "darts.monitors", "darts.datasets", "supernet.relaxations"} <= set(PLUG_INS)
    MODULES["darts.probe.mine"] = tmp_path / "mine.py"
    try:
        MODULES["darts.probe.mine"].write_text(
            "import a.b\nfrom .. import config\nfrom . import base\n"
            "def f():\n    from c import d\n    __import__('e')\n"
        )
        assert {"a.b", "darts.config", "darts.probe.base", "c.d", "e"} <= imports_of("darts.probe.mine")
    finally:
        del MODULES["darts.probe.mine"]


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("supernet")])
def test_the_mathematics_imports_torch_and_itself_alone(name: str) -> None:
    assert tops(name) <= {"torch", "supernet", *sys.stdlib_module_names}


@pytest.mark.parametrize("name", ["supernet", "supernet.genotype", "supernet.search_space"])
def test_cells_and_spaces_need_no_torch(name: str) -> None:
    ours = {imported for imported in imports_of(name) if imported in MODULES}
    assert "torch" not in tops(name)
    assert ours <= {"supernet", "supernet.genotype", "supernet.search_space"}


@pytest.mark.parametrize("name", MODULES)
def test_hydra_stays_in_its_three_modules_and_nothing_imports_tests(name: str) -> None:
    assert name in HYDRA or not tops(name) & {"hydra", "omegaconf", "antlr4"}
    assert not tops(name) & {"tests", "benchmarks", "conftest", "pytest", "hypothesis"}
    assert not tops(name) & {"analognasbench"}, "a third party's table is read, its package never imported"
    assert name == "darts.parts" or not {i for i in imports_of(name) if i.rsplit(".", 1)[-1] == "instantiate"}


@pytest.mark.parametrize("name", [name for name in MODULES if name not in PLUG_INS])
def test_concrete_plug_ins_are_named_by_yaml_alone(name: str) -> None:
    for folder in PLUG_INS:
        if name.startswith(f"{folder}."):
            continue
        concrete = {
            i for i in imports_of(name) if i in MODULES and i.startswith(f"{folder}.") and i != f"{folder}.base"
        }
        assert concrete <= {module for user, module in NAMED_PLUG_INS if user == name}


def test_named_exceptions_are_still_needed() -> None:
    assert all(module in imports_of(user) for user, module in NAMED_PLUG_INS)
    assert all(len(MODULES[name].read_text(encoding="utf-8").splitlines()) > 300 for name in LONG)


def test_nothing_in_a_search_can_name_the_table_of_known_accuracies() -> None:
    """The loop, whatever it imports, every plug-in that it calls, and black-box methods: none reaches darts.oracle."""
    parts = tuple(f"{folder}." for folder in PLUG_INS if folder not in ("darts.oracle", "darts.evaluators"))
    reached = {"darts.search_loop", *(name for name in MODULES if name.startswith(parts))}
    waiting = set(reached)
    while waiting:
        found = {module for module in imports_of(waiting.pop()) if module in MODULES} - reached
        reached |= found
        waiting |= found
    assert {"darts.state", "darts.task", "supernet.network", "darts.monitors.progress"} <= reached
    assert not {name for name in reached if name.startswith("darts.oracle")}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_at_most_300_lines(name: str) -> None:
    lines = len(MODULES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= 300 or name in LONG, f"{name} has {lines} lines"


@pytest.mark.parametrize(
    "code",
    [
        "import darts",
        "import darts.cli",
        "import supernet, supernet.genotype, supernet.search_space",
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


def test_help_answers_within_half_a_second() -> None:
    command = [sys.executable, "-c", "from darts.cli import console; console()", "--help"]
    best = float("inf")
    for _ in range(8):  # the machine may be busy with something else
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        best = min(best, time.perf_counter() - start)
        if best < 0.5:
            return
    raise AssertionError(f"darts --help took {best:.2f} s at best")
