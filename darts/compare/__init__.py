"""Runs beside each other, as numbers."""
