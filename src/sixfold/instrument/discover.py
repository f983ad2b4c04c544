"""What a running server says of itself: its models. Not here: its metrics (backends)."""

import time
import urllib.error
import urllib.request

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.loadgen.client import Target

TIMEOUT = 5.0
POLL_SECONDS = 0.25
MAX_BYTES = 1 << 20


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


def wait_for(target: Target, seconds: float, allow_remote: bool = False) -> None:
    """Wait until the server names its model. Raises ConfigError when it does not in time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            first_model(target, allow_remote)
            return
        except ConfigError:
            refused = not (target.loopback or allow_remote)
            if refused or time.monotonic() >= deadline:
                raise
            time.sleep(POLL_SECONDS)


def first_model(target: Target, allow_remote: bool = False) -> str:
    """The id of the first model of /v1/models. Raises ConfigError if there is none to ask."""
    if not (target.loopback or allow_remote):
        raise ConfigError(
            f"{target.url} is not on this machine", "pass --allow-remote with consent"
        )
    base = target.url.rstrip("/").removesuffix("/v1")
    headers = {"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}
    request = urllib.request.Request(f"{base}/v1/models", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            models = msgspec.json.decode(response.read(MAX_BYTES), type=_Models).data
    except urllib.error.HTTPError as error:
        raise ConfigError(
            f"{base}/v1/models answers {error.code}", "does it want --api-key?"
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        hint = "start one: sixfold serve smollm2-135m"
        raise ConfigError(f"no server answers at {base}: {error}", hint) from None
    if not models:
        raise ConfigError(f"{base} serves no model", "name one with --model")
    return models[0].id
