"""The mathematics of a differentiable one-shot supernet over the NAS-Bench-201 cell."""
