"""Plumbing: run folders, files, devices, randomness, errors."""
