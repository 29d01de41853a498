"""Differentiable architecture search over the NAS-Bench-201 cell: the engine and its command."""

__version__ = "0.1.0"
