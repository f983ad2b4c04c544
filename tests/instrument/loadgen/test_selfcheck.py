"""The client knows when it was the limit."""

import asyncio
import time

import pytest

from sixfold.instrument.loadgen.selfcheck import PERIOD, ClientHealth, SelfCheck, judge


def test_a_client_at_ease() -> None:
    health = judge([0.001] * 100, [0.0005] * 100, 0.4)
    assert not health.client_bound and health.reason == ""
    assert not judge([], [], 0.0).client_bound


def test_each_limit_is_named() -> None:
    assert "95% of a core" in judge([0.0], [0.0], 0.95).reason
    assert "6.0 ms late" in judge([0.006] * 50, [0.0], 0.1).reason
    late = judge([0.0], [0.001] * 50 + [0.2] * 2, 0.1)
    assert late.client_bound and "after their time" in late.reason and late.late_max == 0.2


def test_a_blocked_loop_is_seen() -> None:
    async def blocked() -> SelfCheck:
        check = SelfCheck()
        check.start()
        for _ in range(5):
            await asyncio.sleep(0.02)
            time.sleep(0.1)
        await asyncio.sleep(0.02)
        return check

    async def run() -> float:
        return (await blocked()).finish([]).lag_p99

    assert asyncio.run(run()) > 0.05


def simulated(rate: float, cost: float, seconds: float = 5.0) -> ClientHealth:
    """A client on a clock of its own: each request keeps its loop busy for `cost` seconds."""
    free, busy = 0.0, 0.0
    late, lags = [], []
    wake = PERIOD
    for number in range(int(rate * seconds)):
        planned = number / rate
        while wake <= planned:
            lags.append(max(0.0, free - wake))
            wake = max(wake, free) + PERIOD
        begin = max(planned, free)
        late.append(begin - planned)
        free = begin + cost
        busy += cost
    return judge(lags, late, busy / max(free, seconds))


@pytest.mark.parametrize("load", [1.05, 1.5, 5.0])
def test_a_client_that_is_fed_more_than_it_can_do_is_marked(load: float) -> None:
    cost = 0.0004
    health = simulated(load / cost, cost)
    assert health.client_bound and "of a core" in health.reason
    assert "after their time" in health.reason and "woke" in health.reason


def test_a_client_within_its_limit_is_not_marked() -> None:
    health = simulated(2000.0, 0.0004)
    assert not health.client_bound and health.cpu_share == pytest.approx(0.8, rel=0.01)
