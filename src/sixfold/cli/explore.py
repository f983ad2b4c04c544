"""`sixfold explore`: points as one HTML page, or as a page that follows a run."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sixfold.cli.parsing import Parser

if TYPE_CHECKING:
    from sixfold.core.point import Point
    from sixfold.instrument.advisor.scoreboard import Entry

EXAMPLES = """examples:
  sixfold explore                           published GPU measurements
  sixfold explore sweep.db                  a store, beside the published measurements
  sixfold explore sweep.jsonl               results of llm-optimizer, vLLM, SGLang and others
  sixfold explore --live sweep.db           a page that follows a run, from this machine only
  sixfold explore --scoreboard tried.jsonl  verdicts on advice that was tried
  sixfold explore a.jsonl b.jsonl --no-published -o mine.html --open"""


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    p = Parser(
        prog="sixfold explore",
        description="Write points to one HTML page that works offline, or follow a run.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="stores, JSON Lines of points, or other tools' results (see: sixfold import --help)",
    )
    p.add_argument("-o", "--output", default="explorer.html", help="the page (%(default)s)")
    p.add_argument("--title", default="sixfold explorer", help="its title (%(default)s)")
    p.add_argument("--no-published", action="store_true", help="only the files' points")
    p.add_argument("--live", metavar="STORE",
                   help="serve the page, with a store's points as a run appends them")  # fmt: skip
    p.add_argument("--scoreboard", metavar="FILE",
                   help="verdicts that sixfold advise --validate has kept, in a panel")  # fmt: skip
    p.add_argument("--port", type=int, default=0, help="with --live: on 127.0.0.1 (a free one)")
    p.add_argument("--open", action="store_true", help="open it in a browser")
    return p


def run(argv: list[str]) -> int:
    """Read, write and say where."""
    arguments = parser().parse_args(argv)
    if arguments.live:
        return _follow(arguments)
    from sixfold.instrument.advisor.tally import rows
    from sixfold.instrument.explorer.page import write_page

    output = Path(arguments.output)
    points = _points([Path(name) for name in arguments.files], not arguments.no_published)
    tried = _scoreboard(arguments.scoreboard)
    count = write_page(points, output, arguments.title, tried)
    print(f"{output}: {count} points" + (f", {len(rows(tried))} verdicts" if tried else ""))
    if arguments.open:
        import webbrowser

        webbrowser.open(output.resolve().as_uri())
    return 0


def _follow(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C. The files' points are shown, too; the published ones are not."""
    import threading

    from sixfold.instrument.explorer.live import LiveServer

    others = list(_points([Path(name) for name in arguments.files], published=False))
    tried = _scoreboard(arguments.scoreboard)
    store, title, port = Path(arguments.live), arguments.title, arguments.port
    with LiveServer(store, title, port, others, tried) as server:
        print(f"{server.url} follows {arguments.live}; Ctrl-C ends it", flush=True)
        if arguments.open:
            import webbrowser

            webbrowser.open(server.url)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()
    return 0


def _scoreboard(name: str | None) -> "list[Entry]":
    """The file's entries. Raises ConfigError for a file that is none, or has none."""
    if name is None:
        return []
    from sixfold.core.errors import ConfigError
    from sixfold.instrument.advisor import scoreboard

    entries = scoreboard.read(Path(name))
    if not entries:
        raise ConfigError(
            f"{Path(name).name} has no verdict", "sixfold advise --validate keeps them"
        )
    return entries


def _points(paths: list[Path], published: bool) -> Iterator["Point"]:
    """The points of all files, each id once, then the published ones."""
    from sixfold.instrument.explorer.published import published_points
    from sixfold.instrument.store.read import read_points

    seen: set[str] = set()
    for path in paths:
        for point in read_points(path):
            if point.id not in seen:
                seen.add(point.id)
                yield point
    if published:
        yield from published_points()
