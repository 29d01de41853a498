"""From architecture parameters to a cell. One file each; named by YAML alone."""
