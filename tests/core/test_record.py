import json
import math
import subprocess
from pathlib import Path

import msgspec
import pytest

from sixfold.core.errors import ConfigError
from sixfold.core.record import (
    Machine,
    Measure,
    Record,
    git_state,
    memory_gb,
    read_record,
    versions,
    write_record,
)


def record(*values: float) -> Record:
    return Record(
        name="demo",
        title="A demonstration",
        commit="0" * 40,
        dirty=False,
        date="2026-01-01",
        machine=Machine(cpu="cpu", threads=2, memory_gb=24.0, system="Linux"),
        versions=versions(),
        config={"max_num_seqs": 64},
        workload={"requests": 8},
        seed=0,
        results={"on": {"tokens/s": Measure(values=list(values), unit="1/s")}},
    )


def test_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "results" / "demo.json"
    write_record(record(1.0, 3.0, 2.0), path)
    assert read_record(path) == record(1.0, 3.0, 2.0)
    assert [p.name for p in path.parent.iterdir()] == ["demo.json"]


def test_median_and_spread_come_from_the_values() -> None:
    measure = Measure(values=[1.0, 3.0, 2.0], unit="s")
    assert (measure.median, measure.spread) == (2.0, 1.0)
    assert Measure(values=[0.0, 0.0], unit="s").spread == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_refuses_what_is_no_number_and_leaves_the_old_file(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "demo.json"
    write_record(record(1.0), path)
    with pytest.raises(ConfigError, match="tokens/s"):
        write_record(record(1.0, bad), path)
    assert read_record(path) == record(1.0)


def test_refuses_unknown_fields_other_formats_and_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "demo.json"
    plain = msgspec.to_builtins(record(1.0))
    for broken in (plain | {"tokens": 1}, plain | {"format": 2}, {"name": "demo"}):
        path.write_text(json.dumps(broken))
        with pytest.raises(ConfigError, match=r"demo\.json"):
            read_record(path)
    path.write_bytes(b"\xff\x00")
    with pytest.raises(ConfigError):
        read_record(path)
    with pytest.raises(ConfigError):
        read_record(tmp_path / "absent.json")


def test_a_folder_without_git_is_unknown_and_dirty(tmp_path: Path) -> None:
    assert git_state(tmp_path) == ("unknown", True)


def test_records_are_not_changed_code(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=n", "-c", "user.email=e@e", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True)

    (tmp_path / "code.py").write_text("1")
    (tmp_path / "docs").mkdir()
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    (tmp_path / "docs" / "record.json").write_text("{}")
    assert git_state(tmp_path)[1] is False
    (tmp_path / "code.py").write_text("2")
    assert git_state(tmp_path)[1] is True


def test_the_machine_is_read() -> None:
    assert memory_gb() > 0.1
    assert {"python", "numpy", "msgspec"} <= versions().keys()
