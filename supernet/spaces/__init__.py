"""Spaces of cells: what can be found. One file each; named by YAML alone."""
