"""What to run next, and what the runs say: pure decisions, without clocks, files or processes."""
