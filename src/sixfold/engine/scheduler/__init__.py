"""Decides what runs in the next step. Pure: no clock, randomness, threads or I/O."""
