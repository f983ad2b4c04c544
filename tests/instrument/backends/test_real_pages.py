"""Metrics pages as real engines write them: every line is read, and advice can be given on them."""

import math
import re
from pathlib import Path

import pytest

from instrument.advisor.pages import server
from sixfold.core.slo import parse_slo
from sixfold.instrument.advisor.advice import of_windows
from sixfold.instrument.advisor.endpoint import Replica, look
from sixfold.instrument.backends.aliases import HISTOGRAMS, SGLANG, VLLM
from sixfold.instrument.backends.scrape import canonical, histogram, parse

PAGES = Path(__file__).parents[2] / "golden" / "metric_pages"
ALIASES = {"sglang": SGLANG, "vllm": VLLM}
ABSENT = {
    "sglang": set(),
    "vllm": {"num_requests_swapped", "prompt_rate", "generation_rate", "spec_drafted",
             "spec_accepted"},
}  # fmt: skip
"""Of older versions, or with speculative decoding only."""
NO_HISTOGRAM = {"sglang": {"prefill"}, "vllm": set()}
BEHIND = {"sglang": "/get_server_info", "vllm": "/version"}


def recorded(engine: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(PAGES.glob(f"{engine}-*.txt"))]


def values(page: bytes) -> list[float]:
    lines = [line for line in page.decode().splitlines() if line and not line.startswith("#")]
    return [float(re.split(r"\s+", line)[-1]) for line in lines]


@pytest.mark.parametrize("engine", ALIASES)
def test_every_line_is_read(engine: str) -> None:
    assert len(recorded(engine)) == 2
    for page in recorded(engine):
        read = parse(page)
        assert read.malformed == 0 and not read.truncated
        told = [value for value in values(page) if not math.isnan(value)]
        assert len(told) > 100
        assert sum(len(samples) for samples in read.samples.values()) == len(told)


@pytest.mark.parametrize("engine", ALIASES)
def test_every_name_that_we_look_for_is_there(engine: str) -> None:
    page = parse(recorded(engine)[1])
    assert set(ALIASES[engine]) - set(canonical(page, ALIASES[engine])) == ABSENT[engine]
    for short, names in HISTOGRAMS.items():
        found = [histogram(page, name) for name in names if name.startswith(engine)]
        assert any(one and one.count >= 8 for one in found) != (short in NO_HISTOGRAM[engine])


@pytest.mark.parametrize("engine", ALIASES)
@pytest.mark.parametrize("version", ["99.0.0", ""])
def test_advice_on_them_says_which_version_it_does_not_know(engine: str, version: str) -> None:
    pages = recorded(engine)

    def answer(path: str, n: int) -> tuple[int, bytes]:
        if path == "/metrics":
            return 200, pages[0 if n == 1 else 1]
        if path == BEHIND[engine] and version:
            return 200, f'{{"version": "{version}"}}'.encode()
        return 404, b""

    with server(answer) as url:
        (window,) = look([Replica(url)], 0.0)
    advice = of_windows([window], parse_slo("ttft:p95<20s;itl:p95<20s"))
    assert (advice.engine, advice.model, advice.state) == (engine, "small-model", "healthy")
    assert advice.readings["prefill_share"].value > 0
    said = f"this is {engine} {version}; " if version else f"{engine} tells no version; "
    assert any(said in note for note in advice.notes)
