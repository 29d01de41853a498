"""What a cell costs where it is used, beside its accuracy. One file each; named by YAML alone."""
