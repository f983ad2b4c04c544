"""What was seen of one server over a stretch of time. Plain records, whoever saw it.

Not here: taking them (endpoint.py, prometheus.py, evidence.py), what follows from them.
"""

import msgspec

from sixfold.instrument.backends.scrape import Histogram

Setting = bool | int | float | str


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """One server, one stretch of time."""

    name: str
    """Its address, or its instance's name."""
    engine: str = ""
    """sixfold, vllm, sglang or llamacpp; empty where that is not known."""
    version: str = ""
    model: str = ""
    seconds: float = 0.0
    """Its length."""
    gauges: dict[str, list[float]] = {}
    """Canonical name (backends/aliases.py) -> readings in the order of time."""
    grown: dict[str, float] = {}
    """Canonical name of a counter -> its growth; what was reset or is not known is absent."""
    histograms: dict[str, Histogram] = {}
    """Short name (aliases.HISTOGRAMS) -> what was observed within the window."""
    settings: dict[str, Setting] = {}
    """The server's settings by its own flag names, as far as it tells them."""
    notes: tuple[str, ...] = ()
    """What could not be read, or was left out as unsound."""
