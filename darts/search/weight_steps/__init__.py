"""How the network weights are trained. One file each; named by YAML alone."""
