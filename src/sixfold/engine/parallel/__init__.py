"""Parallelism inside one engine. Empty until it is built."""
