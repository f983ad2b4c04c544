"""The client knows when it was the limit."""

import asyncio
import time

from sixfold.instrument.loadgen.selfcheck import SelfCheck, judge


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
