"""Engines' history, as a Prometheus has kept it. Not here: what follows from it (advice.py)."""
