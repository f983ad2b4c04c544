"""Tuning: which configuration serves a workload best under objectives, in few runs."""
