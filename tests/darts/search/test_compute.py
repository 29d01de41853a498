"""Number type, recomputation, compilation and capture, through the engine."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from darts.command.config import compose_config
from darts.run.errors import UserError
from darts.search.build import build_search
from darts.search.loop import Search
from supernet.cell import SearchCell
from supernet.relaxations.base import EdgeWeights, Relaxation

pytestmark = pytest.mark.usefixtures("fast_form")

WORDS = [
    "dataset=fake",
    "network.channels=4",
    "method=plain",
    "monitor=[]",
    "oracle=none",
    "budget.steps=6",
    "data.batch_size=16",
]
BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


def made(*words: str) -> Search:
    return build_search(compose_config("search", [*WORDS, *words]), None)


def losses(search: Search, steps: int = 6) -> list[float]:
    phase = search.schedule.phases["bilevel"]
    found = []
    for _ in range(steps):
        search.steps.weights.schedule(search.state)
        numbers = phase.step(search.state, search.steps)
        found += [numbers["train_loss"], numbers["valid_loss"]]
    return found


@pytest.mark.parametrize("step", ["first_order", "unrolled"])
def test_recomputation_gives_the_same_search_bit_for_bit(step: str) -> None:
    assert losses(made(f"arch_step={step}", "engine.recompute=cells")) == losses(made(f"arch_step={step}"))


def test_recomputation_keeps_less_for_the_backward_pass() -> None:
    def kept(*words: str) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        search = made("network.cells=3", *words)
        state = search.state
        state.params["alpha_EO"].requires_grad_(False)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            state.loss(state.task.train.next(), state.edge_weights("weights")[0], "loss")
        return sum(sizes.values())

    assert kept("engine.recompute=cells") < 0.4 * kept()


@pytest.mark.parametrize("mode", ["batch", "running"])
def test_bfloat16_leaves_float32_what_must_be(mode: str) -> None:
    search = made("engine.precision=bfloat16", f"network.batch_norm={mode}")
    state = search.state
    inside: list[torch.dtype] = []
    for layer in state.network.modules():
        if isinstance(layer, SearchCell):
            layer.register_forward_hook(lambda _, arguments, out: inside.append(out.dtype))
    half, single = losses(search), losses(made(f"network.batch_norm={mode}"))
    assert set(inside) == {torch.bfloat16}
    assert half == pytest.approx(single, rel=0.03)
    loss = state.loss(state.task.train.next(), state.edge_weights("weights")[0], "loss")
    kept: list[Any] = [loss, *state.network.parameters(), *state.params.values(), *state.network.buffers()]
    for optimizer in (state.weight_optimizer, state.arch_optimizer):
        kept += [value for slots in optimizer.state.values() for value in slots.values() if torch.is_tensor(value)]
    assert {value.dtype for value in kept if value.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["engine.precision=float16"], r"engine\.precision: got 'float16'; allowed are float32, bfloat16"),
        (["engine.recompute=all"], r"engine\.recompute: got 'all'; allowed are none, cells"),
        (["engine.cuda_graphs=true", "device=cpu"], r"engine\.cuda_graphs: got true on cpu"),
        (["engine.compile=1"], r"engine\.compile: got 1"),
    ],
)
def test_a_wrong_choice_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(*words)


class Dead(Relaxation):
    """A relaxation that draws `none` on every edge: nothing reaches the classifier but its own bias and norm."""

    def __call__(self, params: Any, progress: float, generator: torch.Generator, half: str) -> list[EdgeWeights]:
        return [EdgeWeights.one_hot([0] * 6, 5)]

    def expected(self, params: Any, progress: float) -> EdgeWeights:
        return EdgeWeights.dense(params["alpha_EO"].softmax(dim=-1))


@pytest.mark.parametrize("step", ["first_order", "unrolled"])
def test_a_path_without_any_operation_is_a_step_like_others(step: str) -> None:
    search = made(f"arch_step={step}", "arch_step.weight_decay=0")
    search.state.relaxation = Dead()  # type: ignore[assignment]
    before = search.state.params["alpha_EO"].clone()
    assert len(losses(search, 2)) == 4
    assert torch.equal(search.state.params["alpha_EO"], before)


def test_half_steps_touch_nothing_of_each_other() -> None:
    search = made()
    state, steps = search.state, search.steps
    batches = state.task.train.next(), state.task.valid.next()
    frozen = state.network.stem[0].weight.requires_grad_(False)  # somebody else's choice survives
    weights = {name: value.clone() for name, value in state.network.named_parameters()}
    steps.architecture(state, *batches)
    for name, value in state.network.named_parameters():
        assert torch.equal(value, weights[name])
        assert value.grad is None
        assert value.requires_grad == (value is not frozen)
    alphas = state.params["alpha_EO"].clone()
    steps.weights(state, *batches)
    assert torch.equal(state.params["alpha_EO"], alphas)
    assert state.params["alpha_EO"].grad is None
    assert torch.equal(frozen, weights["stem.0.weight"])


@pytest.mark.slow
def test_a_hundred_steps_need_no_more_memory() -> None:
    """Resident memory; what one step keeps for its backward pass is above 1 MiB, so a leak would show as 100."""

    def resident_mib() -> float:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    if not Path("/proc/self/status").exists():
        pytest.skip("resident memory is read from /proc")
    search = made("network.channels=8")
    losses(search, 20)
    before = resident_mib()
    losses(search, 100)
    assert resident_mib() - before < 30


def test_losses_equal_those_of_a_network_written_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty steps beside the opponent of the benchmarks, float64: modules, autograd and optimizers of torch alone."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    torch.set_default_dtype(torch.float64)
    opponent = runpy.run_path(str(BENCHMARKS / "conventional.py"))["ConventionalSearch"](2, 1)
    search = made(
        "network.channels=2", "dataset.num_classes=10", "network.batch_norm=running", "weight_step.lr_min=0.025"
    )
    state = search.state
    state.network.double()
    theirs = opponent.network
    with torch.no_grad():
        for place, value in enumerate(theirs.parameters()):
            waves = torch.sin(torch.arange(value.numel()) * (1.1 + 0.01 * place) + place).reshape(value.shape)
            value.copy_(0.3 * waves + (value.dim() == 1))
        state.params["alpha_EO"].data = theirs.alphas.detach().clone()
        for mine, other in zip(state.network.layers, theirs.layers, strict=True):
            if not isinstance(mine, SearchCell):
                mine.first[1].weight.copy_(other.body[1].weight)
                mine.second[1].weight.copy_(other.body[4].weight)
                mine.first[2].load_state_dict(other.body[2].state_dict())
                mine.second[2].load_state_dict(other.body[5].state_dict())
                mine.shortcut[1].weight.copy_(other.shortcut[1].weight)
                continue
            for edge, (source, target) in enumerate(mine.cell.edges):
                for position in (2, 3):
                    stack = mine.stacked[f"{source}:{position}"]
                    rows = stack.rows(target - source - 1)
                    stack.weight[rows] = other.edges[f"{target}<-{source}"].candidates[position][1].weight
                assert list(other.edges)[edge] == f"{target}<-{source}"
        state.network.stem.load_state_dict(theirs.stem.state_dict())
        state.network.last_norm.load_state_dict(theirs.last[0].state_dict())
        state.network.classifier.load_state_dict(theirs.classifier.state_dict())
    state.weight_optimizer = search.steps.weights.make_optimizer(state.network.parameters())
    state.arch_optimizer = search.steps.architecture.make_optimizer(state.params)
    generator = torch.Generator().manual_seed(5)
    for _ in range(20):
        train, valid = (
            (torch.randn(6, 3, 8, 8, generator=generator), torch.randint(10, (6,), generator=generator))
            for _ in range(2)
        )
        held = {name: value.clone() for name, value in theirs.named_buffers()}
        expected = torch.nn.functional.cross_entropy(theirs(valid[0]), valid[1]).item()
        for name, value in theirs.named_buffers():  # its architecture step tracks statistics; ours does not
            value.copy_(held[name])
        search.steps.weights.schedule(state)
        found = search.steps.architecture(state, train, valid)["valid_loss"]
        assert found == pytest.approx(expected, rel=1e-9)
        opponent.step(train, valid)
        search.steps.weights(state, train, None)
    assert state.params["alpha_EO"].tolist() == [pytest.approx(row, rel=1e-7) for row in theirs.alphas.tolist()]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler itself
def test_a_compiled_cell_gives_the_same_losses() -> None:
    words = ["network.channels=2", "space.num_nodes=2", "dataset.image_size=4"]
    assert losses(made("engine.compile=true", *words), 2) == pytest.approx(losses(made(*words), 2), rel=1e-4)
