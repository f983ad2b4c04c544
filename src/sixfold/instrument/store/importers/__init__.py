"""Other tools' results as points: one module a tool, each with `sniff` and `points`.

Not here: our own lines (lines.py), files and their errors (read.py here).
"""
