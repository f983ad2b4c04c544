"""Published latency targets by name: what other projects call fast enough for a kind of work.

Data only, written in the objective language. Not here: reading or judging it (slo.py).
"""

import msgspec


class Preset(msgspec.Struct, frozen=True):
    """A named objective, its text, and who published the numbers."""

    name: str
    text: str
    source: str


_LLM_D_PLANNER = "llm-d Planner, its table of p95 targets by use case"
_GUIDELLM = "GuideLLM, its documentation's p99 targets by use case"


def _planner(use: str, ttft: str, itl: str, e2e: str) -> Preset:
    text = f"ttft:p95<={ttft};itl:p95<={itl};e2e:p95<={e2e}"
    return Preset(f"{use}@llm-d-planner", text, _LLM_D_PLANNER)


def _guidellm(use: str, **bounds: str) -> Preset:
    text = ";".join(f"{metric}:p99<={bound}" for metric, bound in bounds.items())
    return Preset(f"{use}@guidellm", text, _GUIDELLM)


_TABLE = (
    _planner("chat", "150ms", "25ms", "7s"),
    _planner("code-completion", "100ms", "20ms", "5s"),
    _planner("code-generation", "300ms", "30ms", "25s"),
    _planner("content", "500ms", "35ms", "40s"),
    _planner("rag", "600ms", "30ms", "18s"),
    _planner("long-summary", "1s", "40ms", "60s"),
    _planner("batch", "2s", "45ms", "90s"),
    _guidellm("chat", ttft="200ms", itl="50ms"),
    _guidellm("code-completion", e2e="2s"),
    _guidellm("code-generation", ttft="500ms", itl="150ms"),
    _guidellm("content", ttft="600ms", itl="200ms"),
    _guidellm("rag", e2e="3s", ttft="300ms", itl="100ms"),
    _guidellm("agent", e2e="5s"),
)


def describe() -> str:
    """All presets with their objectives, under their sources."""
    lines = []
    for source in dict.fromkeys(preset.source for preset in _TABLE):
        lines.append(f"objectives of {source}:")
        own = [preset for preset in _TABLE if preset.source == source]
        lines += [f"    preset:{preset.name}: {preset.text}" for preset in own]
    return "\n".join(lines)


PRESETS: dict[str, Preset] = {preset.name: preset for preset in _TABLE}
"""Every preset by name, as written after `preset:`."""
