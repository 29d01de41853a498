"""How the architecture gradient is computed. One file each; named by YAML alone."""
