"""The commands of `darts`, one file each, found by looking."""
