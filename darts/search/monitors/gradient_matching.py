"""Whether training and validation pull the weights of the operations the same way."""

from __future__ import annotations

import statistics

import torch

from darts.search.monitors.base import Monitor, Watched
from supernet.norm import held_statistics


class GradientMatchingMonitor(Monitor):
    """`gradient_matching`: the mean over all kernels of the network of the cosine between the gradients of training
    and validation loss, at the expected edge weights (Jiang et al. 2023, OLES, arXiv:2305.14065, eq. 4). It falls where
    operations begin to fit their training images alone.

    Args:
        batches: of each part, whose gradients are summed.
    """

    def __init__(self, batches: int = 4) -> None:
        if batches < 1:
            raise ValueError(f"batches: got {batches}; give 1 or more")
        self.batches = batches

    def measure(self, search: Watched) -> dict[str, float]:
        state = search.state
        weights = state.expected_weights().to(state.device)
        kernels = [value for value in state.network.parameters() if value.dim() > 1]
        found = []
        with held_statistics(state.network.train()), torch.enable_grad():
            for stream in (state.task.train, state.task.valid):
                before, total = stream.state_dict(), [torch.zeros_like(value) for value in kernels]
                for _ in range(self.batches):
                    inputs, targets = stream.next()
                    loss = state.task.loss(state.compute.logits(inputs, weights, alone=False), targets)
                    gradients = torch.autograd.grad(loss, kernels, allow_unused=True)
                    for sum_so_far, gradient in zip(total, gradients, strict=True):
                        if gradient is not None:
                            sum_so_far += gradient
                stream.load_state_dict(before)
                found.append(total)
        cosines = [
            float(torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0))
            for one, other in zip(*found, strict=True)
            if one.any() and other.any()
        ]
        return {"gradient_matching": statistics.mean(cosines)} if cosines else {}
