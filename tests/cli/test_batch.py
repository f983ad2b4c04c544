"""`sixfold batch` as a user runs it: with a tiny model, against a server, killed, and misused."""

import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from server_harness import Server

from sixfold.cli.batch_plan import seconds_of
from sixfold.cli.batch_progress import duration
from sixfold.cli.main import main

TINY = str(Path(__file__).parents[1] / "golden" / "tiny_gguf" / "tiny-llama.gguf")
MODEL = os.environ.get("SIXFOLD_BATCH_MODEL", TINY)
KILLS = int(os.environ.get("SIXFOLD_BATCH_KILLS", "2"))
ENGINE = ["--model", MODEL, "--kv-cache-memory-mb", "64", "--max-num-seqs", "8"]
GREEDY = ["--temperature", "0", "--max-tokens", "8"]


def batch(*arguments: object) -> int:
    return main(["batch", *map(str, arguments)])


def written(path: Path, items: list) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_job_is_answered_and_says_so(tmp_path, capsys):
    source = written(
        tmp_path / "in.jsonl",
        [
            "Once upon", {"prompt": "The moon", "custom_id": "moon"}, {"input": "text"},
            {"custom_id": "x", "url": "/v1/completions", "body": {"prompt": "a", "model": "gpt-4"}},
        ],
    )  # fmt: skip
    out = tmp_path / "out.jsonl"
    assert batch(source, out, *ENGINE, *GREEDY, "--keep-order", "--price", "0.4") == 3
    assert [row["custom_id"] for row in rows(out)] == ["line-1", "moon", "line-3"]
    assert len(rows(out)[2]["response"]["body"]["data"][0]["embedding"]) > 8
    assert rows(out)[0]["response"]["body"]["usage"]["completion_tokens"] == 8
    errors = rows(tmp_path / "out.errors.jsonl")
    assert (errors[0]["custom_id"], errors[0]["response"]["status_code"]) == ("x", 404)
    said = capsys.readouterr().err
    assert "4 lines: 3 in" in said and "1 in" in said and "tok/s" in said
    assert batch(source, out, *ENGINE, *GREEDY, "--keep-order") == 3
    assert "done already" in capsys.readouterr().err


def test_a_server_answers_the_same_job(tmp_path):
    server = Server()
    try:
        source = written(tmp_path / "in.jsonl", [f"text {i}" for i in range(40)])
        out = tmp_path / "out.jsonl.gz"
        command = [source, out, "--url", server.url, "--concurrency", "4", "--max-tokens", "3"]
        assert batch(*command) == 0
        found = [json.loads(line) for line in gzip.decompress(out.read_bytes()).splitlines()]
        assert sorted(row["custom_id"] for row in found) == sorted(
            f"line-{i + 1}" for i in range(40)
        )
        assert {row["response"]["body"]["object"] for row in found} == {"text_completion"}
    finally:
        server.stop()
        server.close()


def test_a_server_that_is_not_there_stops_the_job_with_a_hint(tmp_path, capsys):
    source = written(tmp_path / "in.jsonl", ["text"])
    url = ["--url", "http://127.0.0.1:9", "--patience", "0"]
    assert batch(source, tmp_path / "out.jsonl", *url) == 1
    assert "is the server running there?" in capsys.readouterr().err
    assert batch(source, tmp_path / "out.jsonl", *url, "--model", "m") == 1
    said = capsys.readouterr().err
    assert "nobody has answered" in said and "goes on where this one stopped" in said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--concurrency", "0"], "concurrency is 0"), (["--price", "cheap"], "price is 'cheap'"),
        (["--url", "ftp://x", "--model", "m"], "is no http or https URL"),
        (["--deadline", "soon"], "'soon'"),
        (["--url", "http://x", "--ray", "auto"], "exclude each other"),
    ],
)  # fmt: skip
def test_wrong_flags_are_named(tmp_path, capsys, wrong, said):
    source = written(tmp_path / "in.jsonl", ["text"])
    assert batch(source, tmp_path / "out.jsonl", *wrong) == 1
    assert said in capsys.readouterr().err


def test_a_missing_input_is_named(tmp_path, capsys):
    assert batch(tmp_path / "none.jsonl", tmp_path / "out.jsonl") == 1
    assert "can't read" in capsys.readouterr().err


def start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "sixfold", "batch", *map(str, arguments)]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def test_ctrl_c_keeps_what_was_answered_and_says_how_to_go_on(tmp_path):
    source = written(tmp_path / "in.jsonl", [f"text {i}" for i in range(3000)])
    out, part = tmp_path / "out.jsonl", tmp_path / "out.jsonl.part"
    process = start(source, out, *ENGINE, *GREEDY)
    end = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "goes on" in said, said
    kept = part.read_bytes()
    assert kept.endswith(b"\n")
    assert batch(source, out, *ENGINE, *GREEDY) == 0
    assert out.read_bytes().startswith(kept) and len(rows(out)) == 3000


def test_killed_with_its_engine_the_job_ends_as_if_nothing_had_been(tmp_path):
    rng, kills, number = random.Random(11), 0, 0
    items = [{"custom_id": f"{i}", "prompt": f"Tell me of number {i}:"} for i in range(80)]
    source = written(tmp_path / "in.jsonl", items)
    began = time.monotonic()
    undisturbed = start(source, tmp_path / "whole.jsonl", *ENGINE, *GREEDY, "--keep-order")
    undisturbed.communicate()
    assert undisturbed.returncode == 0
    took = time.monotonic() - began
    texts = [row["response"]["body"]["choices"] for row in rows(tmp_path / "whole.jsonl")]
    while kills < KILLS:
        number += 1
        out = tmp_path / f"{number}.jsonl"
        while True:
            process = start(source, out, *ENGINE, *GREEDY, "--keep-order")
            try:
                process.communicate(timeout=took * rng.uniform(0.1, 1.3))
                assert process.returncode == 0
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                kills += 1
        assert [row["custom_id"] for row in rows(out)] == [item["custom_id"] for item in items]
        assert [row["response"]["body"]["choices"] for row in rows(out)] == texts


def test_a_plan_says_whether_the_deadline_holds_and_changes_nothing(tmp_path, capsys):
    source = written(tmp_path / "in.jsonl", [f"text {i} " * 20 for i in range(300)])
    command = [source, tmp_path / "out.jsonl", *ENGINE, *GREEDY, "--plan", "--price", "0.4"]
    assert batch(*command, "--deadline", "8h") == 0
    said = capsys.readouterr().err
    assert "the deadline holds" in said and "$0." in said
    lines, tokens = re.search(r"about (\d+) lines, .* at most ([\d,]+) tokens", said).groups()
    assert 280 < int(lines) < 320 and int(tokens.replace(",", "")) == 8 * int(lines)
    assert batch(*command, "--deadline", "1s", "--max-tokens", "200") == 3
    assert "the deadline may not hold" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_durations_are_short():
    assert [seconds_of(t) for t in ("", "45", "90m", "1h30m", "2d")] == [0, 45, 5400, 5400, 172800]
    assert [duration(s) for s in (4.4, 200, 7400)] == ["4 s", "3:20", "2:03:20"]
