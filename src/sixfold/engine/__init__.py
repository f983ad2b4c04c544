"""The engine: one request, end to end."""
