"""Durable offline jobs. Empty until it is built."""
