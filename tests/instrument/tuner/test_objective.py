"""The objective of a study is a metric that its runs will have, or an error before they begin."""

import pytest

from sixfold.core.errors import ConfigError
from sixfold.core.slo import parse_slo
from sixfold.instrument.tuner.objective import read_objective

SLO = parse_slo("ttft:p97<1s")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "goodput"),
        ("goodput", "goodput"),
        ("throughput", "output_throughput"),
        ("ttft", "ttft:mean"),
        ("e2e_latency:median", "e2e:p50"),
        ("chat/itl:p99.9", "chat/itl:p99.9"),
        ("ttft:p97", "ttft:p97"),
        ("cost", "cost"),
    ],
)
def test_objectives_become_keys_of_points(text: str, key: str) -> None:
    assert read_objective(text, SLO, True) == key


def test_without_objectives_it_is_throughput() -> None:
    assert read_objective("", None, False) == "output_throughput"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("goodput", "--slo"),
        ("chat/goodput", "--slo"),
        ("output_throughputt", "did you mean output_throughput?"),
        ("cost", "--price-per-hour"),
        ("ttft:p9x", "p99"),
        ("ttft:p97", "p95"),
        ("goodputs:p95", "goodput"),
        ("output_throughput:p95", "output_throughput alone"),
    ],
)
def test_what_no_run_has_is_refused(text: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_objective(text, None, False)
    assert hint in caught.value.hint
