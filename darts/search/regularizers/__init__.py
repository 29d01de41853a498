"""Terms added to the architecture's objective. One file each; named by YAML alone, several at once."""
