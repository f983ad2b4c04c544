"""`sixfold record`: a trace of real traffic, and what it shows."""

import argparse
import sys
from typing import TYPE_CHECKING

from sixfold.cli.parsing import Parser

if TYPE_CHECKING:
    from sixfold.instrument.recorder.run import Recording

EXAMPLES = """examples:
  sixfold record --upstream http://127.0.0.1:8000 -o trace.jsonl
  sixfold record --upstream https://llm.example --keep-text --max-seconds 3600 -o day.jsonl
  sixfold record --access-log /var/log/nginx/access.log -o trace.jsonl
  sixfold record --access-log log.jsonl --fields end=ts,endpoint=http.path -o trace.jsonl
  sixfold record --check trace.jsonl
  sixfold bench --workload trace:file=trace.jsonl,first=200 --arrivals trace

Send clients to the address that is printed in place of the server's. Ctrl-C ends the recording
with a summary; each line is in the file when its request ends."""


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    p = Parser(
        prog="sixfold record",
        description="Write a trace of real traffic: times, lengths, hashes of prompt blocks, "
        "sampling, outcomes. A workload for bench and tune.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    way = p.add_mutually_exclusive_group(required=True)
    way.add_argument("--upstream", metavar="URL", help="pass requests on to this server")
    way.add_argument("--access-log", metavar="FILE",
                     help="read nginx's common or combined format, or JSON Lines")  # fmt: skip
    way.add_argument("--check", metavar="FILE",
                     help="sum up a trace; check the layout of prompts, also of a jsonl "
                          "workload's")  # fmt: skip
    p.add_argument("-o", "--output", default="trace.jsonl", help="the trace (%(default)s)")
    p.add_argument("--append", action="store_true", help="go on with a trace that is there")
    p.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_proxy(p)
    p.add_argument("--fields", metavar="KEY=NAME,...", default="",
                   help="with --access-log: names in JSON lines (start, end, method, endpoint, "
                        "status, seconds, milliseconds, ttft, model, input_tokens, output_tokens, "
                        "request_bytes, response_bytes)")  # fmt: skip
    return p


def add_proxy(p: argparse.ArgumentParser) -> None:
    """Arguments of the proxy."""
    proxy = p.add_argument_group("with --upstream")
    proxy.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:8100",
                       help="where clients connect; port 0: a free one (%(default)s)")  # fmt: skip
    proxy.add_argument("--keep-text", action="store_true",
                       help="keep the prompts' text, too: for the layout check, and to send the "
                            "same prompts again")  # fmt: skip
    proxy.add_argument("--max-seconds", type=float, default=0.0, help="end after so long")
    proxy.add_argument("--max-requests", type=int, default=0, help="end after so many")
    proxy.add_argument("--max-body-mb", type=int, default=64,
                       help="refuse larger requests (%(default)s)")  # fmt: skip
    proxy.add_argument("--max-connections", type=int, default=256,
                       help="of clients (%(default)s)")  # fmt: skip
    proxy.add_argument("--insecure-bind", action="store_true",
                       help="listen where others can reach, and use, the server")  # fmt: skip


def run(argv: list[str]) -> int:
    """Record, or read, and sum up."""
    a = parser().parse_args(argv)
    if a.check:
        return _check(a, a.check)
    if a.access_log:
        _take_log(a)
    else:
        _record(a, _recording(a))
    return _check(a, a.output)


def _check(a: argparse.Namespace, path: str) -> int:
    import msgspec

    from sixfold.instrument.recorder.report import check_prompts, report_trace
    from sixfold.instrument.recorder.trace_file import is_trace

    found = report_trace(path) if is_trace(path) else check_prompts(path)
    print(msgspec.json.encode(found).decode() if a.json else found.lines())
    return 0


def _take_log(a: argparse.Namespace) -> None:
    """An access log's requests as a trace."""
    from contextlib import closing
    from pathlib import Path

    import msgspec

    from sixfold.instrument.recorder.access_log import open_log
    from sixfold.instrument.recorder.trace_file import TraceWriter, new_header

    log = open_log(a.access_log, a.fields)
    header = msgspec.structs.replace(new_header(log.start, "access log"), missing=log.missing)
    with closing(TraceWriter(Path(a.output), header, a.append)) as writer:
        for entry in log.entries():
            writer.write(entry)
    _say(f"{a.access_log}: {log.requests} requests; {log.skipped} other lines were left out")


def _recording(a: argparse.Namespace) -> "Recording":
    from sixfold.core.errors import ConfigError
    from sixfold.instrument.recorder.proxy import ProxyConfig
    from sixfold.instrument.recorder.run import Recording

    for name in ("max_seconds", "max_requests", "max_body_mb", "max_connections"):
        least = 1 if name in ("max_body_mb", "max_connections") else 0
        if not least <= getattr(a, name) < 1e9:
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag} is {getattr(a, name)}", f"make it {least} or more")
    host, colon, port = a.listen.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise ConfigError(f"--listen is {a.listen!r}", "write 127.0.0.1:8100, or :8100")
    proxy = ProxyConfig(
        upstream=a.upstream,
        host=host.strip("[]") or "127.0.0.1",
        port=int(port),
        insecure_bind=a.insecure_bind,
        max_connections=a.max_connections,
        max_body_bytes=a.max_body_mb << 20,
    )
    return Recording(
        proxy=proxy,
        output=a.output,
        append=a.append,
        keep_text=a.keep_text,
        max_seconds=a.max_seconds,
        max_requests=a.max_requests,
    )


def _record(a: argparse.Namespace, recording: "Recording") -> None:
    """Until Ctrl-C; a second one does not wait for requests in flight."""
    import asyncio
    import signal

    from sixfold.instrument.recorder.run import record

    async def main() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def end(number: int) -> None:
            stop.set()
            loop.remove_signal_handler(number)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end, number)
        await record(recording, ready, stop)

    def ready(url: str) -> None:
        text = "prompts are kept" if recording.keep_text else "no prompt's text is kept"
        _say(f"{url} passes to {recording.proxy.upstream}; {text}; Ctrl-C ends it")

    asyncio.run(main())


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
