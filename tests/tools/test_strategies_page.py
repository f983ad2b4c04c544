"""What strategies gain: taken from records as they are, and where they begin to pay."""

import pytest

import strategies_page
from sixfold.core.record import Machine, Measure, Record, write_record
from sixfold.strategies.measured import Gain, Measured
from strategies_page import all_measured, break_even, page, strategies_pages


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(strategies_page, "RESULTS", tmp_path)
    return tmp_path


def put(results, name: str, title: str, rows: dict[str, dict[str, list[float]]]) -> None:
    """A record of those rows."""
    results_of = {
        row: {column: Measure(values=values, unit="") for column, values in line.items()}
        for row, line in rows.items()
    }
    machine = Machine(cpu="A CPU", threads=2, memory_gb=1.0, system="x", isa="avx2")
    record = Record(
        name=name, title=title, commit="c" * 40, dirty=False, date="2026-01-02", machine=machine,
        versions={}, config={}, workload={}, seed=0, notes="", results=results_of,
    )  # fmt: skip
    write_record(record, results / f"{name}.json")


def test_pairs_are_turned_so_that_more_is_better(results):
    put(results, "strategy-prefix-caching", "Prefix caching: chats", {
        "off": {"TTFT p50": [100, 90, 110]}, "on": {"TTFT p50": [20, 25, 30]},
        "off: unrelated": {"TTFT p50": [100]}, "on: unrelated": {"TTFT p50": [125]},
    })  # fmt: skip
    (one,) = all_measured()
    assert one.gains == (Gain("chats", 4.0), Gain("unrelated", 0.8))
    assert (one.best.workload, one.worst.times, one.break_even) == ("chats", 0.8, "")
    assert (one.machine, one.commit) == ("A CPU, 2 threads", "c" * 12)


def test_a_sweep_says_where_it_begins_to_pay(results):
    rows = {f"{tier}, {n} tokens: loaded": {"speed": [gain]} for tier, gains in (
        ("disk", (0.5, 1.2, 9.0)), ("memory", (2.0, 3.0, 4.0))
    ) for n, gain in zip(("128", "512", "2,048"), gains, strict=True)}  # fmt: skip
    put(results, "offload", "Offload", rows)
    disk, memory = all_measured()
    assert disk.break_even == "from disk, 512 tokens" and memory.break_even == ""
    text = page((disk, memory))
    assert "| from disk, 512 tokens |" in text and "| pays throughout |" in text
    assert "| disk, 2,048 tokens | 9.00 |" in text


@pytest.mark.parametrize(
    ("gains", "words"),
    [([0.9, 1.0, 1.1, 2.0], "from w2"), ([2.0, 1.2, 1.0, 0.9], "up to w1"),
     ([1.0, 1.04], ""), ([1.2, 3.0], ""), ([1.2, 1.0, 1.3], "from w2")],
)  # fmt: skip
def test_the_break_even_is_behind_the_last_that_did_not_pay(gains, words):
    assert break_even([Gain(f"w{i}", times) for i, times in enumerate(gains)]) == words


def test_without_records_there_is_no_page(results):
    assert list(strategies_pages()) == []


def test_the_package_carries_what_the_records_say():
    from sixfold.strategies.measured import measured

    assert {one.strategy for one in measured()} >= {"prefix caching", "continuous batching"}
    assert all(isinstance(one, Measured) and one.gains for one in measured())
