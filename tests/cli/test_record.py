"""`sixfold record` as a process: Ctrl-C, a kill, files that are there, logs and checks."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request

import pytest

from instrument.recorder.upstream import (
    PATIENCE,
    Upstream,
    completion,
    eventually,
    says,
    whole,
)
from sixfold.cli.main import main
from sixfold.instrument.recorder.trace_file import read_entries
from sixfold.instrument.workloads.lines import read_lines
from sixfold.instrument.workloads.presets import parse_workload

BODY = json.dumps({"model": "m", "prompt": "word " * 200, "max_tokens": 4}).encode()


def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A recorder's process, and the proxy's address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sixfold", "record", "--listen", "127.0.0.1:0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    line = process.stderr.readline()
    found = re.match(r"http://127\.0\.0\.1:\d+", line)
    assert found, line + process.stderr.read()
    return process, found[0]


def ask(url: str) -> bytes:
    request = urllib.request.Request(f"{url}/v1/completions", BODY)
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return response.read()


def entries(path) -> list:
    return list(read_entries(read_lines(str(path))))


@pytest.fixture
def upstream():
    with Upstream(says(whole(completion()))) as server:
        yield server


def test_ctrl_c_ends_it_with_a_report(upstream, tmp_path):
    path = tmp_path / "t.jsonl"
    process, url = start("--upstream", upstream.url, "-o", str(path), "--keep-text")
    with process:
        for _ in range(3):
            assert ask(url) == completion()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "Traceback" not in err
    assert "3 requests" in out and "prompt layout: 3 prompts" in out
    assert [e.output_tokens for e in entries(path)] == [3, 3, 3]
    assert len(parse_workload(f"trace:file={path}").build(0)) == 3


def test_it_ends_by_itself_after_so_many_and_appends(upstream, tmp_path):
    path = tmp_path / "t.jsonl"
    arguments = ("--upstream", upstream.url, "-o", str(path), "--max-requests", "2", "--json")
    for more in ((), ("--append",)):
        process, url = start(*arguments, *more)
        with process:
            ask(url)
            ask(url)
            out, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    assert json.loads(out)["requests"] == 4
    first, *_, last = entries(path)
    assert first.hash_ids == last.hash_ids and len(first.hash_ids) == 7, "one salt"


def test_it_ends_by_itself_after_so_long(upstream, tmp_path):
    process, _ = start(
        "--upstream", upstream.url, "-o", str(tmp_path / "t"), "--max-seconds", "0.1"
    )
    with process:
        assert "0 requests" in process.communicate(timeout=PATIENCE)[0]


def test_a_kill_leaves_whole_lines(upstream, tmp_path):
    path = tmp_path / "t.jsonl"
    process, url = start("--upstream", upstream.url, "-o", str(path))
    answered = []

    def hammer() -> None:
        try:
            while True:
                answered.append(ask(url))
        except OSError:
            pass

    with process:
        threads = [threading.Thread(target=hammer) for _ in range(2)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(path.read_bytes().splitlines()) > 30)
        process.kill()
        for thread in threads:
            thread.join(PATIENCE)
        process.communicate()
    assert path.read_bytes().endswith(b"\n")
    found = entries(path)
    assert len(found) >= 30 and {e.output_tokens for e in found} == {3}
    assert main(["record", "--check", str(path)]) == 0


def test_a_file_that_is_there_is_left_alone(upstream, tmp_path, capsys):
    path = tmp_path / "t.jsonl"
    path.write_text("mine\n")
    assert main(["record", "--upstream", upstream.url, "-o", str(path)]) == 1
    assert "--append" in capsys.readouterr().err and path.read_text() == "mine\n"
    assert main(["record", "--upstream", upstream.url, "-o", str(path), "--append"]) == 1
    assert path.read_text() == "mine\n"


def test_a_port_that_is_taken_leaves_no_file(upstream, tmp_path, capsys):
    path = tmp_path / "t.jsonl"
    listen = f"localhost:{upstream.port}"
    assert main(["record", "--upstream", "http://x", "--listen", listen, "-o", str(path)]) == 1
    assert "can't listen" in capsys.readouterr().err and not path.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--upstream", "x"], "no http"),
        (["--upstream", "http://x", "--listen", "8100"], "--listen"),
        (["--upstream", "http://x", "--listen", "0.0.0.0:8100"], "--insecure-bind"),
        (["--upstream", "http://x", "--max-seconds", "nan"], "--max-seconds"),
        (["--upstream", "http://x", "--max-body-mb", "0"], "--max-body-mb"),
        (["--check", "none.jsonl"], "none.jsonl"),
        (["--access-log", "none.log"], "none.log"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(arguments, message, tmp_path, capsys):
    output = [] if "--check" in arguments else ["-o", str(tmp_path / "t.jsonl")]
    assert main(["record", *arguments, *output]) == 1
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_one_way_must_be_said(capsys):
    for arguments in ([], ["--upstream", "http://x", "--check", "y"]):
        with pytest.raises(SystemExit) as caught:
            main(["record", *arguments])
        assert caught.value.code == 2


def test_an_access_log_becomes_a_trace(tmp_path, capsys):
    log, path = tmp_path / "access.log", tmp_path / "t.jsonl"
    row = {"ended": "2026-01-31T12:00:0{}Z", "uri": "/v1/completions", "status": 200,
           "prompt_tokens": 50, "completion_tokens": 9}  # fmt: skip
    log.write_text("\n".join(json.dumps(row).replace("{}", str(n)) for n in range(4)))
    command = ["record", "--access-log", str(log), "--fields", "end=ended", "-o", str(path)]
    assert main(command) == 0
    told = capsys.readouterr()
    assert "4 requests" in told.err and "does not say: durations" in told.out
    sessions = parse_workload(f"trace:file={path}").build(0)
    assert [s.at for s in sessions] == [0, 1, 2, 3]
    assert {len(s.turns[0].token_ids) for s in sessions} == {50}


def test_prompts_of_a_workload_are_checked_too(tmp_path, capsys):
    path = tmp_path / "prompts.jsonl"
    shared = " ".join(f"rule {n} holds" for n in range(120))
    rows = [{"prompt": f"Now: 2026-01-31T12:00:{n:02d}Z\n{shared}\nQ{n}"} for n in range(9)]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert main(["record", "--check", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [f["kind"] for f in found["findings"]] == ["timestamp"]
