"""The op program, its two executors, and what they share."""
