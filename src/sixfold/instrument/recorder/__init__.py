"""Real traffic as a trace: a pass-through proxy, access logs, and what such a trace shows."""
