"""The store: nothing appended is lost, nothing is there twice, other files are refused."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sixfold.core.errors import ConfigError
from sixfold.core.point import Point
from sixfold.instrument.store.lines import read_lines, write_lines
from sixfold.instrument.store.store import Store

KILLS = int(os.environ.get("SIXFOLD_STORE_KILLS", "8"))

WRITER = """
import sys
from pathlib import Path
from sixfold.core.point import Point
from sixfold.instrument.store.store import Store
name = sys.argv[2]
with Store(Path(sys.argv[1])) as store:
    for i in range(int(sys.argv[3])):
        at = "2026-01-01T00:00:00Z"
        store.append([Point(id=f"{name}-{i}", study="s", date=at, engine="e", model="m")])
        print(i, flush=True)
"""


def point(number: int, study: str = "s") -> Point:
    return Point(
        id=f"p{number}",
        study=study,
        date="2026-01-01T00:00:00Z",
        engine="sixfold",
        model="m",
        values={"ttft:p95": number / 10},
    )


def writer(path: Path, name: str, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_keeps_points_in_order_and_once(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    with Store(path) as store:
        assert store.append([point(1), point(2, "t")]) == 2
        assert store.append([point(2, "t"), point(3)]) == 1
        assert [p.id for _, p in store.points()] == ["p1", "p2", "p3"]
        assert store.ids("s") == {"p1", "p3"}
        assert store.studies() == {"s": 2, "t": 1}
        (last, _) = list(store.points())[1]
        assert [p.id for _, p in store.points(after=last)] == ["p3"]
    with Store(path) as store:
        assert len(store) == 3
        assert [p for _, p in store.points("s")] == [point(1), point(3)]


def test_a_kill_loses_nothing_that_was_kept(tmp_path: Path) -> None:
    rng = random.Random(4)
    path = tmp_path / "results.db"
    kept: set[str] = set()
    for life in range(KILLS):
        process = writer(path, f"life{life}", 1_000_000)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        said, _ = process.communicate()
        last = max((int(line) for line in said.split()), default=0)
        kept |= {f"life{life}-{i}" for i in range(last)}
        with Store(path) as store:
            ids = [p.id for _, p in store.points()]
        assert len(set(ids)) == len(ids)
        assert kept <= set(ids)


def test_two_writers_share_a_store(tmp_path: Path) -> None:
    writers = [writer(tmp_path / "results.db", name, 40) for name in ("a", "b")]
    for process in writers:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    with Store(tmp_path / "results.db") as store:
        assert len(store) == 80


def test_many_may_create_a_store_at_once(tmp_path: Path) -> None:
    for attempt in range(20):
        path, start = tmp_path / f"{attempt}.db", threading.Barrier(8)

        def create(path: Path = path, start: threading.Barrier = start) -> int:
            start.wait()
            with Store(path) as store:
                return len(store)

        with ThreadPoolExecutor(8) as pool:
            created = [pool.submit(create) for _ in range(8)]
        assert [future.result() for future in created] == [0] * 8


def test_refuses_what_is_no_store(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, and long enough to be read as a header of one" * 20)
    with pytest.raises(ConfigError, match="no store"):
        Store(text)
    other = tmp_path / "other.db"
    db = sqlite3.connect(other)
    db.execute("CREATE TABLE mine (x)")
    db.commit()
    db.close()
    with pytest.raises(ConfigError, match="another program's"):
        Store(other)


def test_lines_round_trip_and_a_torn_end_waits(tmp_path: Path) -> None:
    path = tmp_path / "points.jsonl"
    points = [point(i) for i in range(5)]
    assert write_lines(path, points) == 5
    assert list(read_lines(path)) == points
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines()[-1])):
        path.write_bytes(whole[: -1 - cut])
        assert list(read_lines(path)) == points[:4]
    path.write_bytes(whole[:-1])
    assert list(read_lines(path)) == points


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "points.jsonl"
    write_lines(path, [point(0)])
    with path.open("ab") as file:
        file.write(b'{"id": 3}\n')
    with pytest.raises(ConfigError, match=r"points\.jsonl:2 is no point"):
        list(read_lines(path))
    with pytest.raises(ConfigError, match="can't read"):
        list(read_lines(tmp_path / "absent.jsonl"))
