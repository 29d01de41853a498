"""How far the answer of a search is decided: what its edges rest on, and since when the cell has stood.

Shape suffixes: K records, E edges, O operations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from darts.search.standing import as_good
from supernet.relaxations.base import Relaxation, opened
from supernet.spaces.base import LEFT_OUT, Space

CLEAR = 0.1  # of the uniform weight 1 / O: an operation that leads by less is as good as another one
LAST = 0.25  # of the steps: for so long it has to have led

Record = Mapping[str, Any]


def recorded_weights(record: Record, relaxation: Relaxation, planned_steps: int) -> Tensor:
    """Expected edge weights (E, O) at a record of the history."""
    params = {name: torch.tensor(value) for name, value in record["alphas"].items()}
    progress = record["step"] / planned_steps
    return relaxation.expected(opened(params, record.get("allowed")), progress).mean_EO


def shares_of(weights_EO: Tensor) -> Tensor:
    """What each operation has of the weight of its edge, float64."""
    weights_EO = weights_EO.double().clamp_min(0)
    return weights_EO / weights_EO.sum(dim=-1, keepdim=True).clamp_min(1e-300)


def entropy(weights_EO: Tensor) -> float:
    """Of the edge weights, nats, the mean over edges."""
    return float(torch.special.entr(shares_of(weights_EO)).sum(dim=-1).mean())


def verdict(
    space: Space,
    cell: str,
    history: Sequence[Record],
    weights_KEO: Tensor,
    standing: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """As `SearchResult` holds it.

    Args:
        space: of the cell.
        cell: what was found.
        history: of the search, at least one record.
        weights_KEO: expected edge weights at each of its records.
        standing: of the phase that judged cells, if one did.
    """
    since = history[-1]["step"]
    for record in reversed(history):
        if record["cell"] != cell:
            break
        since = record["step"]
    if standing is not None:
        by, edges = "judging", _judged(space, cell, standing)
    elif all(sum(row) == 1 for row in history[-1].get("allowed", [[]])):
        by, edges = "elimination", _edges(space, cell)
    else:
        late = [record["step"] >= (1 - LAST) * history[-1]["step"] for record in history]
        by, edges = "edge weights", _weighed(space, cell, weights_KEO[late])
    open_edges = [edge for edge in edges if edge["decided"] is False]
    known = all(
        edge["decided"] is not None
        for edge, choice in zip(edges, space.path(space.parse(cell)), strict=True)
        if choice != LEFT_OUT
    )
    return {
        "by": by, "clear_lead": CLEAR / len(space.candidates), "edges": edges,
        "undecided": len(open_edges) if known else None, "unchanged_since": since,
        "stable": since <= (1 - LAST) * history[-1]["step"],
        "short_trainings": space.every_edge and space.allowed_EO is None,
    }  # fmt: skip


def _edges(space: Space, cell: str) -> list[dict[str, Any]]:
    chosen = space.path(space.parse(cell))
    return [
        {
            "edge": edge,
            "operation": space.operation(choice),
            "decided": None,
            "weight": None,
            "lead": None,
            "rivals": [],
        }
        for edge, choice in zip(space.edge_names, chosen, strict=True)
    ]


def _weighed(space: Space, cell: str, weights_KEO: Tensor) -> list[dict[str, Any]]:
    edges, clear = _edges(space, cell), CLEAR / len(space.candidates)
    for edge, choice, weights_KO in zip(edges, space.path(space.parse(cell)), weights_KEO.unbind(1), strict=True):
        if choice == LEFT_OUT:
            continue
        others_KO = weights_KO.clone()
        others_KO[:, choice] = -torch.inf
        if not space.every_edge and "none" in space.candidates:  # which edges are left out is not said by it
            others_KO[:, space.candidates.index("none")] = -torch.inf
        lead_K = weights_KO[:, choice] - others_KO.amax(dim=-1)
        edge["weight"], edge["lead"] = float(weights_KO[-1, choice]), float(lead_K[-1])
        edge["decided"] = bool((lead_K >= clear).all())
        edge["rivals"] = [space.candidates[int(others_KO[-1].argmax())]]
    return edges


def _judged(space: Space, cell: str, standing: Mapping[str, Any]) -> list[dict[str, Any]]:
    edges, cells = _edges(space, cell), standing["cells"]
    if standing["undecided"] is None:
        return edges
    best = cells[0]["value"]
    rivals = [one["cell"] for one in cells[1:] if as_good(one["value"], best, one["deviation"])]
    paths = [space.path(space.parse(rival)) for rival in rivals]
    for place, edge in enumerate(edges):
        names = dict.fromkeys(space.operation(path[place]) for path in paths)
        edge["rivals"] = [name for name in names if name != edge["operation"]]
        edge["decided"] = False if edge["rivals"] else None if len(rivals) < standing["undecided"] else True
    return edges
