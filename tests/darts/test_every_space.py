"""Conformance of every space that ships, found by globbing configs/space: a new file is tested with no edit here."""

from __future__ import annotations

import json
import logging
import random
import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from searching import plain
from torch import nn

from darts.command.config import compose_config
from darts.models.bounded import check_bounded
from darts.models.exporting import folded_form
from darts.models.formats.onnx import Onnx
from darts.run.parts import build_one
from darts.run.signals import Interrupted
from darts.search.build import build_search
from darts.search.monitors.base import Monitor
from supernet.relaxations.base import EdgeWeights
from supernet.size import NetworkSize
from supernet.spaces.base import Space
from tests.quickly import slow_but

SPACES = Path(__file__).resolve().parents[2] / "configs" / "space"
NAMES = sorted(file.stem for file in SPACES.glob("*.yaml"))
NAMES += [
    "nas_bench_201 space.num_nodes=3", "nas_bench_201 space.num_nodes=5", "mobile space.stabilised=true",
    "hierarchical space.motifs=[3,2,1] space.num_nodes=[3,3,3]", "darts_cells space.stem=imagenet space.num_nodes=2",
]  # fmt: skip
SAMPLES = 40


def first_of_each_class() -> list[str]:
    """The names whose class has not been there before."""
    seen = {}
    for name in NAMES:
        target = yaml.safe_load((SPACES / f"{name.split()[0]}.yaml").read_text(encoding="utf-8"))["_target_"]
        seen.setdefault(target, name)
    return list(seen.values())


FIRSTS = first_of_each_class()


def space_of(name: str) -> Space:
    return build_one(compose_config("baseline", f"space={name}".split()), "space")  # type: ignore[no-any-return]


def able(name: str, *abilities: str) -> Space:
    space = space_of(name)
    if lacking := [one for one in abilities if one not in space.abilities]:
        pytest.skip(f"{name} lacks {', '.join(lacking)}")
    return space


def samples(space: Space, count: int = SAMPLES, seed: int = 0) -> list[Any]:
    rng = random.Random(seed)
    return [space.sample(rng) for _ in range(count)]


SIZES = {"images": NetworkSize(4, 3, 5, 3, 16), "series": NetworkSize(6, 1, 1, 2, 7)}
WORDS = {
    "images": ["dataset=fake", "dataset.image_size=16", "dataset.images=64", "data.batch_size=16"],
    "series": [
        "task=sequence_regression",
        "dataset=adding",
        "dataset.length=5",
        "dataset.items=64",
        "data.batch_size=16",
    ],
}


def small(space: Space) -> tuple[NetworkSize, torch.Tensor]:
    """A small size for the space's inputs, and a few of them."""
    size = SIZES[space.takes]
    sides = (size.in_channels, size.image_size, size.image_size)
    shape = (8, *sides) if space.takes == "images" else (8, size.image_size, size.in_channels)
    return size, torch.randn(shape, generator=torch.Generator().manual_seed(0))


def counted(network: nn.Module, inputs: torch.Tensor) -> dict[str, float]:
    """Multiply-adds by operator, as fvcore counts them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import uses torch.jit.script, which torch deprecates
        from fvcore.nn import FlopCountAnalysis

        logging.getLogger("fvcore").setLevel(logging.ERROR)
        return dict(FlopCountAnalysis(network, inputs).by_operator())


def genes(genotype: Any) -> set[str]:
    """What a text is made of."""
    return set(re.split(r"[|+/;: ]+", str(genotype)))


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_of_the_space_and_their_texts_and_description_come_back(name: str) -> None:
    space = space_of(name)
    found = samples(space)
    for genotype in found:
        space.check(genotype)
        assert space.parse(str(genotype)) == genotype
        assert hash(genotype) == hash(space.parse(str(genotype)))
    assert len({str(genotype) for genotype in found}) > SAMPLES / 4
    assert samples(space) == found, "the same draws from the same generator"
    assert json.loads(json.dumps(space.describe())) == space.describe()
    assert space == space_of(name)
    with pytest.raises(ValueError, match=r"\w"):
        space.parse("no genotype of any space")


@pytest.mark.parametrize("name", NAMES)
def test_every_operator_stays_inside_and_changes_something(name: str) -> None:
    space, rng = able(name, "mutate"), random.Random(1)
    for operator in space.mutations.values():
        changed = 0
        for genotype in samples(space):
            child = operator(genotype, rng)
            space.check(child)
            changed += child != genotype
        assert changed > SAMPLES / 4


@pytest.mark.parametrize("name", NAMES)
def test_neighbours_are_different_and_near(name: str) -> None:
    space = able(name, "neighbours")
    for genotype in samples(space, 5):
        found = space.neighbours(genotype)
        assert len({str(one) for one in found}) == len(found) > 0
        assert genotype not in found
        for one in found:
            space.check(one)
            assert genotype in space.neighbours(one)


@pytest.mark.parametrize("name", NAMES)
def test_a_child_is_made_of_its_parents(name: str) -> None:
    space, rng = able(name, "crossover"), random.Random(2)
    found = samples(space)
    mixed = 0
    for one, other in zip(found[::2], found[1::2], strict=True):
        child = space.crossover(one, other, rng)
        space.check(child)
        assert genes(child) <= genes(one) | genes(other)
        mixed += child not in (one, other)
        assert space.crossover(one, one, rng) == one
    assert mixed > SAMPLES / 20


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_decisions_places_and_codes_belong_to_one_genotype_each(name: str) -> None:
    space = space_of(name)
    found = {str(genotype): genotype for genotype in samples(space)}
    for genotype in found.values():
        if "decided" in space.abilities:
            row = space.decisions(genotype)
            assert space.decided(row) == genotype
            assert [0 <= choice < space.options(row[:place]) for place, choice in enumerate(row)] == [True] * len(row)
            assert space.options(row) == 0
        if "size" in space.abilities:
            assert space.genotype(space.index(genotype)) == genotype
    if "encode" in space.abilities:
        codes = [tuple(space.encode(genotype)) for genotype in found.values()]
        assert len({len(code) for code in codes}) == 1
        assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("name", slow_but(FIRSTS, NAMES))
def test_a_cost_is_what_another_library_counts_in_the_network(name: str) -> None:
    space = space_of(name)
    size, inputs = small(space)
    for genotype in samples(space, 4):
        network, cost = space.network(genotype, size).eval(), space.cost(genotype, size)
        assert cost.params == sum(parameter.numel() for parameter in network.parameters())
        if any(isinstance(module, nn.RNNBase) for module in network.modules()):
            continue  # the library counts none of them
        by_operator = counted(network, inputs[:1])
        assert cost.flops == sum(by_operator.get(operator, 0) for operator in ("conv", "linear", "addmm"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_network_in_onnx_is_one_that_predict_runs(name: str, tmp_path: Path) -> None:
    space = space_of(name)
    size, inputs = small(space)
    about: Any = SimpleNamespace(input_shape=lambda count: (count, *inputs.shape[1:]), stored=dict)
    for genotype in samples(space, 2):
        Onnx().write(folded_form(space.network(genotype, size).eval()), about, tmp_path / "m.onnx")
        check_bounded(tmp_path / "m.onnx")


@pytest.mark.parametrize("name", NAMES)
def test_a_network_takes_over_what_it_shares_with_another(name: str) -> None:
    space = space_of(name)
    size, inputs = small(space)
    one, other = samples(space, 2)
    parent, twin, child = (space.network(g, size).eval() for g in (one, one, other))
    twin.inherit(parent)  # type: ignore[operator]
    answers = []
    for network in (twin, parent):
        torch.manual_seed(0)  # for operations that draw
        answers.append(network(inputs))
    torch.testing.assert_close(*answers)
    child.inherit(parent)  # type: ignore[operator]
    assert child(inputs).shape == parent(inputs).shape


@pytest.mark.parametrize("name", NAMES)
def test_the_supernet_at_one_genotype_is_its_network(name: str) -> None:
    space = able(name, "supernet")
    size, inputs = small(space)
    inputs = inputs.double()
    supernet = space.supernet(size, generator=torch.Generator().manual_seed(1)).double().eval()
    for genotype in samples(space, 3):
        path = space.path(genotype)
        assert space.relaxed(path) == genotype
        weights = EdgeWeights.one_hot(list(path), len(space.candidates), torch.float64)
        if any("noise" in one for one in genes(genotype)):
            continue  # draws anew
        network = supernet.inherit(genotype)  # type: ignore[operator]
        torch.testing.assert_close(supernet(inputs, weights), network(inputs), rtol=1e-10, atol=1e-10)
        soft = [[2.0 if place == choice else 0.1 for place in range(len(space.candidates))] for choice in path]
        assert space.strongest(soft) == genotype


class Stop(Monitor):
    def on_step(self, search: Any, numbers: dict[str, float]) -> None:
        search.stop.made |= search.state.step == 3


@pytest.mark.parametrize("name", slow_but(["nas_bench_201", "recurrent_cell"], NAMES))
def test_a_search_resumes_to_the_same_bits(name: str, tmp_path: Path) -> None:
    space = able(name, "supernet")
    words = [
        *f"space={name}".split(), "method=plain", "monitor=[]", "oracle=none", "budget.steps=6", "network.channels=4",
        *WORDS[space.takes],
    ]  # fmt: skip
    settings = compose_config("search", words)
    (tmp_path / "checkpoints").mkdir()
    torch.manual_seed(0)
    expected = plain(build_search(settings, None).run())
    stopped = build_search(settings, tmp_path)
    stopped.monitors = [Stop()]
    with pytest.raises(Interrupted):
        stopped.run()
    again = build_search(settings, tmp_path)
    again.resume()
    assert plain(again.run()) == expected
    assert space.parse(json.loads(expected)["cell"])
