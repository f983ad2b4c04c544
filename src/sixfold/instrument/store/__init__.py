"""Where points are kept: a SQLite file, JSON Lines in and out, other tools' results in."""
