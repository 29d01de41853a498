"""Trained networks in use: files for other programs, answers about images, what they cost, several as one."""
