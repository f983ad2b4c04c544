"""llm-optimizer's client arguments as loads and workloads."""

import pytest

from sixfold.core.errors import ConfigError
from sixfold.instrument.loadgen.arrivals import gamma
from sixfold.instrument.tuner.client_args import Offered, parse_client_args
from sixfold.instrument.workloads.presets import parse_workload


@pytest.mark.parametrize(
    ("text", "loads", "workload"),
    [
        ("", [None], ""),
        ("max_concurrency=[4,8]", [4, 8], ""),
        ("request-rate=[1,2.5]", [gamma(1, 1, 7), gamma(2.5, 1, 7)], ""),
        (
            "max_concurrency=4;num_prompts=64;random_input_len=512;random_output_len=32",
            [4],
            "random:count=64,input=512,output=32",
        ),
        ("dataset_name=random;num_prompts=9", [None], "random:count=9"),
        ("dataset_name=random", [None], "random"),
    ],
)
def test_loads_and_lengths(text: str, loads: list[object], workload: str) -> None:
    sent = parse_workload(workload) if workload else None
    assert parse_client_args(text, 7) == [Offered(load, sent) for load in loads]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_concurrency=4;request_rate=1", "one of them"),
        ("max_concurrency=0", "whole number"),
        ("max_concurrency=true", "whole number"),
        ("max_concurrency=1.5", "whole number"),
        ("request_rate=inf", "requests per second"),
        ("request_rate=0", "above 0"),
        ("dataset_name=sharegpt", "--workload"),
        ("disable_tqdm=true", "--workload"),
        ("num_prompts=many", "count"),
    ],
)
def test_what_can_not_be_read_is_said(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_client_args(text, 0)
    assert words in f"{caught.value} {caught.value.hint}"
