"""The capacity benchmark fails where a target is missed."""

import sys
from pathlib import Path

import pytest

from sixfold.core.record import Measure

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
import client_capacity


def row(streams: float = 2500.0, late: tuple[float, ...] = (1.0,), marked: tuple[int, ...] = (1,)):
    return {
        "streams/s": Measure(values=[streams], unit="1/s"),
        "sent late, p99": Measure(values=list(late), unit="ms"),
        "marked client-bound": Measure(values=[float(m) for m in marked], unit="of 1"),
    }


def test_what_meets_all_targets_is_silent() -> None:
    noisy = row(late=(1.0, 2.0, 40.0))  # the median counts
    assert list(client_capacity.missed(row(2000.0), noisy, row(marked=(1, 1, 1)))) == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((row(1999.0), row(), row()), "1999 streams/s"),
        ((row(), row(late=(5.0,)), row()), "5.0 ms late"),
        ((row(), row(late=(1.0, 6.0, 7.0)), row()), "6.0 ms late"),
        ((row(), row(), row(marked=(1, 0, 1))), "1 of 3 rounds"),
    ],
)
def test_what_misses_one_is_named(rows, said: str) -> None:
    (fault,) = client_capacity.missed(*rows)
    assert said in fault


@pytest.mark.parametrize(("streams", "code"), [(2500.0, 0), (1500.0, 1)])
def test_the_exit_code_tells(monkeypatch, capsys, streams: float, code: int) -> None:
    from contextlib import nullcontext

    monkeypatch.setattr(sys, "argv", ["client_capacity.py", "--rounds", "1"])
    monkeypatch.setattr(client_capacity, "null_server", lambda apart: nullcontext("url"))
    monkeypatch.setattr(client_capacity, "drive", lambda *given: None)
    monkeypatch.setattr(client_capacity, "row", lambda result: row(streams))
    assert client_capacity.main() == code
    assert ("all targets met" in capsys.readouterr().out) == (code == 0)
