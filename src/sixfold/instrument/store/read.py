"""Points of a file, whatever it is: a store, JSON Lines, another tool's results."""

from collections.abc import Iterator
from pathlib import Path

from sixfold.core.errors import ConfigError
from sixfold.core.point import Point
from sixfold.instrument.store.importers.read import read_results
from sixfold.instrument.store.store import Store

SQLITE = b"SQLite format 3\0"


def read_points(path: Path) -> Iterator[Point]:
    """All points of a file. Raises ConfigError for one that is not there, or of no known format."""
    if not path.is_file():
        raise ConfigError(f"there is no file {path.name}", "is the path right?")
    with path.open("rb") as file:
        is_store = file.read(len(SQLITE)) == SQLITE
    if not is_store:
        yield from read_results(path)
        return
    with Store(path) as store:
        for _number, point in store.points():
            yield point
