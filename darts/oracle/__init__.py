"""Tables of known accuracies. One file each; named by YAML alone."""
