"""A policy over cells, rewarded by the metric (ENAS, Pham et al. 2018, arXiv:1802.03268, section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from darts.search.arch_steps.base import ArchStep
from darts.search.state import SearchState
from darts.tasks.base import Batch
from supernet.norm import held_statistics
from supernet.relaxations.base import EdgeWeights, Relaxation, gumbel, opened


class Reinforce(ArchStep):
    """Draws cells from softmax(alpha), an edge for itself, and moves alpha towards those that do better than the others
    of the same batch with the shared weights (REINFORCE, Williams 1992).

    A sample's baseline is the mean reward of the other samples (Kool et al. 2019, "Buy 4 REINFORCE samples"), which
    leaves the estimate unbiased and nothing to remember. ENAS's controller is an LSTM; this one is a table, which for
    six edges says the same. Train the weights along samples of the same policy: `relaxation=gdas`.

    Args:
        samples: cells a step, one forward pass each.
        entropy: weight of the policy's entropy, in nats an edge, beside the reward in [0, 1] as accuracies are.
        lr, betas, weight_decay, own: of Adam, see `ArchStep`.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(
        self,
        samples: int = 10,
        entropy: float = 1e-4,
        lr: float = 1e-3,
        betas: Sequence[float] = (0.0, 0.999),
        weight_decay: float = 0.0,
        own: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(lr, betas, weight_decay, own)
        if samples < 2:
            raise ValueError(f"samples: got {samples}; give 2 or more, as each is judged by the others")
        if not entropy >= 0:
            raise ValueError(f"entropy: got {entropy}; give 0 or more")
        self.samples, self.entropy = samples, entropy

    def passes(self, relaxation: Relaxation) -> int:
        return self.samples

    def gradient(self, state: SearchState, train_batch: Batch, valid_batch: Batch) -> tuple[list[Tensor], float]:
        alpha_EO = opened(state.params, state.allowed_EO)["alpha_EO"]
        rewards, losses, chosen = [], 0.0, []
        with torch.no_grad(), held_statistics(state.network):
            for _ in range(self.samples):
                choice_E = gumbel(alpha_EO, state.sampling).argmax(dim=-1)
                path = EdgeWeights.one_hot(choice_E.tolist(), alpha_EO.shape[-1], alpha_EO.dtype).to(state.device)
                loss, score = state.answered(valid_batch, path)
                losses += loss
                rewards.append(state.task.metric.worth(score))
                chosen.append(choice_E)
        logarithms_EO = torch.log_softmax(alpha_EO, dim=-1)
        reward_S = torch.tensor(rewards, dtype=alpha_EO.dtype)
        advantage_S = (reward_S - reward_S.mean()) * self.samples / (self.samples - 1)  # over the mean of the others
        chances_S = torch.stack([logarithms_EO.gather(1, choice_E[:, None]).sum() for choice_E in chosen])
        p_EO = logarithms_EO.exp()
        entropy = -(p_EO * logarithms_EO.where(p_EO > 0, 0.0)).sum(dim=-1).mean()
        objective = -(advantage_S * chances_S).mean() - self.entropy * entropy + state.regularization()
        found = torch.autograd.grad(objective, list(state.params.values()), materialize_grads=True)
        return list(found), losses / self.samples
