"""Engines made available: server, router, disaggregation, offline batches."""
