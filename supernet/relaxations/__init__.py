"""Relaxations: from architecture parameters to edge weights. One file each; named by YAML alone."""
