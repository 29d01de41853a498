"""Proximal policy optimisation of an LSTM controller (Schulman et al. 2017, arXiv:1707.06347, equation 7; the
controller of Zoph & Le 2017, arXiv:1611.01578).

Shape suffixes: N cells of a batch, D decisions, H hidden units, K choices of one decision.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts.blackbox.methods.base import Baseline, Candidate, at_least, share
from supernet.spaces.base import Genotype


class Controller(nn.Module):
    """An LSTM that makes one decision after another, fed with the choice before."""

    def __init__(self, choices: tuple[int, ...], hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.hidden = hidden
        self.embeddings = nn.ModuleList(nn.Embedding(count, hidden) for count in (1, *choices[:-1]))
        self.cell = nn.LSTMCell(hidden, hidden)
        self.heads = nn.ModuleList(nn.Linear(hidden, count) for count in choices)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1, generator=generator)

    def forward(
        self, decisions_ND: Tensor | None, count: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decisions (N, D), given or drawn, their log-probabilities (N,) and the policy's entropies (N,)."""
        state = None
        choice_N = torch.zeros(count, dtype=torch.long)
        made, logs, entropies = [], [], []
        for place, (embedding, head) in enumerate(zip(self.embeddings, self.heads, strict=True)):
            state = self.cell(embedding(choice_N), state)
            log_NK = F.log_softmax(head(state[0]), dim=1)
            if decisions_ND is None:
                choice_N = torch.multinomial(log_NK.detach().exp(), 1, generator=generator)[:, 0]
            else:
                choice_N = decisions_ND[:, place]
            made.append(choice_N)
            logs.append(log_NK.gather(1, choice_N[:, None])[:, 0])
            entropies.append(-(log_NK.exp() * log_NK).sum(1))
        return torch.stack(made, dim=1), torch.stack(logs).sum(0), torch.stack(entropies).sum(0)


class ProximalPolicy(Baseline):
    """Batches of cells, and a few clipped steps on each; rewards are normalised within a batch.

    Args:
        batch: cells between updates.
        steps: of Adam an update.
        lr: of Adam.
        clip: bound of the probability ratio's distance from 1.
        entropy: weight of the policy's entropy.
        hidden: units of the LSTM.
    """

    requires = ("decided", "choices")

    def __init__(
        self,
        batch: int = 10,
        steps: int = 5,
        lr: float = 0.005,
        clip: float = 0.2,
        entropy: float = 0.05,
        hidden: int = 32,
    ) -> None:
        for name, value, least in (("batch", batch, 2), ("steps", steps, 1), ("lr", lr, 0), ("hidden", hidden, 1)):
            at_least(name, value, least)
        share("clip", clip)
        at_least("entropy", entropy, 0)
        self.batch, self.steps, self.lr = batch, steps, lr
        self.clip, self.entropy, self.hidden = clip, entropy, hidden

    def setup(self) -> None:
        self.generator = torch.Generator().manual_seed(self.rng.getrandbits(63))
        with torch.random.fork_rng(devices=[]):  # torch's layers draw weights that are drawn again at once
            self.controller = Controller(self.space.choices, self.hidden, self.generator)
        self.optimizer = torch.optim.Adam(self.controller.parameters(), lr=self.lr)
        self.drawn: list[tuple[Tensor, float]] = []  # decisions and log-probabilities, to be asked
        self.open: dict[int, tuple[Tensor, float]] = {}
        self.answers: list[tuple[Tensor, float, float]] = []  # and the reward

    def propose(self) -> Genotype:
        if not self.drawn:
            with torch.no_grad():
                decisions_ND, log_N, _ = self.controller(None, self.batch, self.generator)
            self.drawn = list(zip(decisions_ND, log_N.tolist(), strict=True))
        decisions_D, log = self.drawn.pop(0)
        self.open[self.asked] = (decisions_D, log)
        return self.space.decided(decisions_D.tolist())

    def observe(self, candidate: Candidate, value: float) -> None:
        self.answers.append((*self.open.pop(candidate.number), self.finite(value)))
        if len(self.answers) < self.batch:
            return
        decisions, logs, rewards = zip(*self.answers, strict=True)
        self.answers, self.drawn = [], []  # what is drawn but not asked is of the old policy
        decisions_ND, old_N, reward_N = torch.stack(decisions), torch.tensor(logs), torch.tensor(rewards)
        advantage_N = (reward_N - reward_N.mean()) / (reward_N.std() + 1e-8)
        for _ in range(self.steps):
            _, log_N, entropy_N = self.controller(decisions_ND, len(decisions_ND))
            ratio_N = (log_N - old_N).exp()
            clipped_N = ratio_N.clamp(1 - self.clip, 1 + self.clip)
            gain_N = torch.minimum(ratio_N * advantage_N, clipped_N * advantage_N)
            loss = -(gain_N + self.entropy * entropy_N).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
