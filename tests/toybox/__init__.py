"""Somebody's own package: a space, a task and a command, a file and a YAML each."""
