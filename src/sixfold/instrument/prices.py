"""What hardware costs: dollars per hour, as a number or from a table of patterns.

A table is TOML with a line per kind of hardware, `"*H100 x8*" = 31.5`; the first pattern that
matches counts, without regard to case. Not here: the cost of tokens (measure.py).
"""

import math
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

from sixfold.core.errors import ConfigError

HINT = 'a table has lines such as "*H100*" = 2.49'


def price_per_hour(given: str, hardware: str) -> float:
    """`given` is dollars per hour, or a TOML file that has them for a point's hardware.

    Raises ConfigError for a price below 0, a file that is no table of prices, and no match.
    """
    try:
        return _checked(float(given), given)
    except ValueError:
        pass
    prices = _table(Path(given))
    for pattern, price in prices.items():
        if fnmatchcase(hardware.lower(), pattern.lower()):
            return price
    raise ConfigError(
        f"{given} has no price for {hardware!r}", f"add a line with a pattern; {HINT}"
    )


def _table(path: Path) -> dict[str, float]:
    if not path.is_file():
        raise ConfigError(f"{path} is neither a price nor a file", "such as 2.49 or prices.toml")
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}", HINT) from None
    for pattern, price in found.items():
        if isinstance(price, bool) or not isinstance(price, int | float):
            raise ConfigError(f"{path}: {pattern!r} has no price, but {price!r}", HINT)
    return {pattern: _checked(float(price), pattern) for pattern, price in found.items()}


def _checked(price: float, where: str) -> float:
    if not (math.isfinite(price) and price >= 0):
        raise ConfigError(f"{where}: {price} is no price", "dollars per hour, 0 or more")
    return price
