"""What to do about what hurts: which strategies answer it, and what measurements say is wrong."""
