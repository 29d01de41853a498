"""Data sets of labelled images. One file each; named by YAML alone."""
