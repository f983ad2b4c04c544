"""`sixfold explore --live` and `sixfold tune --live` as processes."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from sixfold.cli.main import main
from sixfold.core.point import Point
from sixfold.instrument.store.store import Store

TINY = str(Path(__file__).parents[1] / "golden" / "tiny_gguf" / "tiny-llama.gguf")


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sixfold", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


def address(line: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+/", line)
    assert found, line
    return found[0]


def asked(url: str) -> dict:
    with urllib.request.urlopen(f"{url}points?after=0", timeout=10) as response:
        return json.loads(response.read())


def test_it_follows_a_store_until_ctrl_c(tmp_path):
    path = tmp_path / "s.db"
    point = Point(id="a", date="2026-01-01T00:00:00Z", engine="e", model="m")
    with Store(path) as store:
        process = start("explore", "--live", str(path))
        with process:
            url = address(process.stdout.readline())
            assert asked(url)["points"] == []
            store.append([point])
            answer = asked(url)
            assert [p["id"] for p in answer["points"]] == ["a"] and not answer["running"]
            process.send_signal(signal.SIGINT)
            rest = process.stdout.read()
            assert process.wait(10) == 0 and "Traceback" not in rest
    assert not list(tmp_path.glob("*.html"))


def test_a_store_that_is_not_there_is_an_error(tmp_path, capsys):
    assert main(["explore", "--live", str(tmp_path / "none.db")]) == 1
    assert "none.db" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_tuning_shows_its_points_as_they_come(tmp_path):
    process = start(
        "tune", TINY, "--workload", "random:count=4,input=30,output=4,low=3,high=100",
        "--concurrency", "2", "--space", "max_num_seqs=[1,2]", "--runs", "2", "--budget", "10m",
        "--flags", "sixfold:num_kv_blocks=64;max_model_len=256", "--live",
        "--store", str(tmp_path / "t.db"),
    )  # fmt: skip
    with process:
        url = ""
        while not url:
            line = process.stdout.readline()
            assert line, "it ended"
            url = address(line) if "follow it at" in line else ""
        drain = threading.Thread(target=process.stdout.read)
        drain.start()
        answers = []
        while process.poll() is None:
            try:
                answers.append(asked(url))
            except OSError:
                break
            if answers[-1]["running"] is False:
                break
            time.sleep(0.2)
        drain.join(60)
        assert process.wait(10) == 0
    counts = [len(answer["points"]) for answer in answers]
    assert counts == sorted(counts) and counts[-1] >= 5
    assert answers[0]["running"] and not answers[-1]["running"], "a page hears of the end"
    assert not (tmp_path / "t.db.running").exists()
