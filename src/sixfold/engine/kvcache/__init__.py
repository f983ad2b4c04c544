"""Blocks, prefix cache and block tables. Pure: standard library and core only."""
