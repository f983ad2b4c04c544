import msgspec
import pytest

from sixfold.core.errors import ConfigError
from sixfold.core.point import Point


def point(**fields: object) -> Point:
    base = {"id": "a", "date": "2026-01-01T00:00:00Z", "engine": "sixfold", "model": "m"}
    return Point(**(base | fields))  # type: ignore[arg-type]


def test_repeats_share_a_key_and_configurations_do_not() -> None:
    first = point(config={"max_num_seqs": 4, "dtype": "int8"}, load={"concurrency": 8})
    again = point(
        id="b", repeat=1, load={"concurrency": 8}, config={"dtype": "int8", "max_num_seqs": 4}
    )
    assert first.key == again.key
    keys = {first.key}
    for change in (
        {"config": {"max_num_seqs": 5, "dtype": "int8"}},
        {"load": {"concurrency": 9}},
        {"engine": "vllm"},
        {"hardware": "H100"},
        {"workload": {"name": "chat"}},
    ):
        keys.add(msgspec.structs.replace(first, **change).key)
    assert len(keys) == 6


def test_a_failure_says_why() -> None:
    with pytest.raises(ConfigError, match="gives no reason"):
        point(status="out_of_memory")
    assert point(status="out_of_memory", reason="killed by the kernel").status == "out_of_memory"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_are_numbers(value: float) -> None:
    with pytest.raises(ConfigError, match="ttft:p95"):
        point(values={"ttft:p95": value})


def test_reads_back_what_it_writes() -> None:
    whole = point(values={"ttft:p95": 0.3}, strategies=("prefix caching",), source="published")
    assert msgspec.json.decode(msgspec.json.encode(whole), type=Point) == whole
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"id":"a","date":"","engine":"e","model":"m","new":1}', type=Point)
