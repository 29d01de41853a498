"""Watchers of a search. One file each; named by YAML alone, several at once."""
