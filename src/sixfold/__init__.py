"""sixfold: the six families of LLM inference optimisation, in one engine and one instrument.

The public names are imported lazily, so that `import sixfold` costs nothing and
`import sixfold.instrument` needs no native module.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sixfold.core.request import SamplingParams
    from sixfold.engine.llm import LLM

__version__ = "0.1.0"
__all__ = ["LLM", "SamplingParams", "__version__"]

_LAZY = {"LLM": "sixfold.engine.llm", "SamplingParams": "sixfold.core.request"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'sixfold' has no attribute {name!r}")
