"""What tests of whole engines share."""

from sixfold.core.request import EngineRequest
from sixfold.engine.engine import LLMEngine


def alone(engine: LLMEngine, one: EngineRequest) -> list[int]:
    """The tokens of a request that has the engine for itself."""
    engine.add_request(one)
    found: list[int] = []
    while engine.has_unfinished():
        for delta in engine.step():
            found += delta.token_ids
    return found
