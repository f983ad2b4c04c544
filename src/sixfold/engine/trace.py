"""A timeline of steps and requests as Chrome trace events, for Perfetto or chrome://tracing.

One event a line, written as the engine goes, so that what a killed engine has written can be read:
viewers take an array that is not closed. Not here: where time goes in numbers (attribution.py).
"""

from pathlib import Path
from typing import Any

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.request import Timings
from sixfold.engine.attribution import StepTime
from sixfold.engine.scheduler.output import SchedulerOutput

STEPS, REQUESTS = 1, 2
"""Numbers of the two groups of rows."""


class TraceFile:
    """Events into a file. Raises ConfigError where it can't be written."""

    def __init__(self, path: str) -> None:
        self._encode = msgspec.json.Encoder().encode
        try:
            self._file = Path(path).open("wb")  # noqa: SIM115 - as long as the engine lives
        except OSError as error:
            raise ConfigError(
                f"cannot write the trace {path}: {error.strerror}", "check --trace-file"
            ) from error
        self._file.write(b"[\n")
        for number, name in ((STEPS, "steps"), (REQUESTS, "requests")):
            self._write({"ph": "M", "name": "process_name", "pid": number, "args": {"name": name}})

    def step(self, output: SchedulerOutput, time: StepTime) -> None:
        """A step and what it consisted of, one after the other."""
        chunks = output.chunks
        prompts = sum(len(c.token_ids) for c in chunks if len(c.token_ids) > 1 + c.num_drafted)
        args = {
            "requests": len(chunks), "tokens": output.num_batched_tokens,
            "prompt tokens": prompts, "drafted": sum(c.num_drafted for c in chunks),
            "preempted": len(output.preempted),
        }  # fmt: skip
        self._span("step", time.began, time.ended - time.began, STEPS, 0, args)
        at = time.began
        for name, seconds in (
            ("load", time.loading), ("draft", time.drafting), ("forward", time.forward),
            ("sample", time.sampling), ("text", time.detokenise),
        ):  # fmt: skip
            if seconds:
                self._span(name, at, seconds, STEPS, 1, {})
                at += seconds

    def request(self, request_id: str, arrived: float, ended: float, timings: Timings) -> None:
        """A request that is over, in a row of its own."""
        args: dict[str, Any] = {"cached tokens": timings.cached_tokens,
                                "preemptions": timings.preemptions}  # fmt: skip
        args |= {f"{part}, ms": round(1e3 * s, 3) for part, s in timings.parts.items()}
        row = int.from_bytes(request_id.encode()[-6:], "little") & 0x7FFFFFFF
        self._span(request_id, arrived, ended - arrived, REQUESTS, row, args)

    def close(self) -> None:
        """Make it a whole array."""
        if not self._file.closed:
            self._file.write(b"{}]\n")
            self._file.close()

    def _span(
        self, name: str, began: float, seconds: float, group: int, row: int, args: dict[str, Any]
    ) -> None:
        event = {"ph": "X", "name": name, "pid": group, "tid": row, "args": args}
        self._write(event | {"ts": round(1e6 * began, 1), "dur": round(1e6 * seconds, 1)})

    def _write(self, event: dict[str, Any]) -> None:
        self._file.write(self._encode(event) + b",\n")
        self._file.flush()
