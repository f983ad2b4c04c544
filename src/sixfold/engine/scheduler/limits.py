"""How long a request may get. Not here: when it runs (scheduler.py)."""

from sixfold.core.errors import RequestError
from sixfold.core.request import EngineRequest
from sixfold.engine.kvcache.manager import UNBOUNDED


def checked_max_len(request: EngineRequest, max_model_len: int, room: int) -> int:
    """Most tokens, prompt and output, of a request; `room`: of one that has the cache for itself.

    Raises RequestError where it could never run.
    """
    prompt = len(request.prompt_token_ids)
    if prompt == 0:
        raise RequestError("the prompt is empty", "send at least one token", param="prompt")
    if prompt >= max_model_len:
        raise RequestError(
            f"the prompt has {prompt} tokens; max_model_len is {max_model_len}",
            "shorten it, or start the engine with a larger --max-model-len",
            param="prompt",
        )
    max_tokens = request.params.max_tokens
    wanted = prompt + (UNBOUNDED if max_tokens is None else max_tokens)
    max_len = min(wanted, max_model_len)
    if max_tokens is None and prompt < room:
        return min(max_len, room)
    if max_len > room:
        raise RequestError(
            f"prompt and output take up to {max_len} tokens; the KV cache holds {room - 1}",
            "lower max_tokens, or start the engine with a larger --kv-cache-memory-mb",
            param="max_tokens" if prompt < room else "prompt",
        )
    return max_len
