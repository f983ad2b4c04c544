"""Engines measured, compared, explained. Empty until it is built."""
