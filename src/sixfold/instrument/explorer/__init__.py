"""The explorer: points as one HTML page that works offline, and the published measurements."""
