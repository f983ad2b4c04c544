"""Whether a block is sooner loaded than computed again: by what both have taken lately.

Pure. Not here: measuring (engine.py), loading (offloader.py).
"""

FADE = 0.8
ASSUMED_LOAD_SECONDS = 1e-3
"""Of a block, before one was loaded: so that one is tried."""
EXPLORE = 64
"""Hits that were computed again although they could be loaded, after which loading is tried."""


class LoadPolicy:
    """Seconds per block, loaded and computed."""

    def __init__(self) -> None:
        self._load = ASSUMED_LOAD_SECONDS
        self._compute = 0.0
        self._passed_over = 0

    def loaded(self, blocks: int, seconds: float) -> None:
        """So many blocks took that long to load."""
        self._load = self._load * FADE + seconds / blocks * (1 - FADE)

    def computed(self, blocks: float, seconds: float) -> None:
        """A step computed about so many blocks of prompts, and little else, in that time."""
        each = seconds / blocks
        self._compute = self._compute * FADE + each * (1 - FADE) if self._compute else each

    def pays(self) -> bool:
        """Loading is faster. Now and then said of what was slower, as that may have changed."""
        if self._load < self._compute or not self._compute:
            return True
        self._passed_over += 1
        if self._passed_over < EXPLORE:
            return False
        self._passed_over = 0
        return True
