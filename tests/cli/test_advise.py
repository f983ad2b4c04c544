"""`sixfold advise`: what it says of servers and records, its exit codes, its files, its errors."""

import json
import subprocess
import sys

import msgspec
import pytest

from instrument.advisor.pages import metrics, page, server
from sixfold.cli.advise import ABSTAINED, FOUND, parser
from sixfold.cli.main import main
from sixfold.cli.tune import seconds
from sixfold.core.point import Point
from sixfold.instrument.advisor import careful, endpoint
from sixfold.instrument.store.store import Store

SLO = "ttft:p95<1s;itl:p95<100ms"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(endpoint, "PERIOD", 0.01)
    monkeypatch.setattr(endpoint, "LEAST_READINGS", 8)


def advise(*arguments: str) -> int:
    return main(["advise", "--slo", SLO, *arguments])


def late(n: int) -> bytes:
    return page(n, waiting=9, running=4, late=True)


def test_a_healthy_server(capsys):
    with server(metrics(page)) as url:
        assert advise(url, "--look", "0.05") == 0
    assert "HEALTHY" in capsys.readouterr().out


def test_a_first_answer_needs_no_native_module_and_no_minute():
    """Where no compiler was, and no wheel fits."""
    without = """
import sys
sys.modules["sixfold.engine.kernels._native"] = None
from sixfold.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
    with server(metrics(page)) as url:
        arguments = ["advise", url, "--look", "0.05", "--slo", SLO]
        done = subprocess.run([sys.executable, "-c", without, *arguments],
                              capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "HEALTHY" in done.stdout
    assert seconds(parser().parse_args([]).look) <= 30


def test_a_cause_its_steps_and_the_plan_to_hand_over(tmp_path, capsys):
    for name in ("plan.md", "plan.html"):
        with server(metrics(late)) as url:
            code = advise(url, "--look", "0.05", "--set", "max-num-seqs=4",
                          "--report", str(tmp_path / name))  # fmt: skip
        assert code == FOUND
    said = capsys.readouterr().out
    assert "CAUSE 1: Requests queue although" in said
    assert "--max-num-seqs 16" in said and "undo     --max-num-seqs 4" in said
    plan = (tmp_path / "plan.md").read_text()
    assert "Roll back: `--max-num-seqs 4`" in plan and "Verify: ttft:p95" in plan
    assert "<strong>Let more requests run at once</strong>" in (tmp_path / "plan.html").read_text()


def test_what_a_server_says_is_escaped_in_the_page(tmp_path):
    hostile = late(1).decode().replace(
        'block_size="16"', 'block_size="16",max_num_seqs="4",x="<script>alert(1)</script>"'
    )  # fmt: skip

    def bad(n: int) -> bytes:
        return late(n) + b'vllm:x{model_name="<img src=x onerror=alert(1)>"} 1\n'

    assert hostile
    with server(metrics(bad)) as url:
        advise(url, "--look", "0.05", "--set", "max_num_seqs=4",
               "--report", str(tmp_path / "p.html"))  # fmt: skip
    text = (tmp_path / "p.html").read_text()
    assert "<img" not in text and "&lt;img" in text


def test_json_holds_it_all(capsys):
    with server(metrics(late)) as url:
        assert advise(url, "--look", "0.05", "--json") == ABSTAINED
    told = json.loads(capsys.readouterr().out)
    assert told["state"] == "abstained"
    assert told["lacks"][0]["signal"] == "slots"
    assert told["readings"]["waiting_mean"]["value"] == 9


def point(**values: float) -> Point:
    return Point(
        id="1", date="2026-01-01", engine="sixfold", model="m", command="sixfold serve m",
        config={"max_num_seqs": 1}, values=values | {"requests": 20.0, "error_rate": 0.0},
        client={"client_bound": False}, fingerprint={"prefix_reuse": 0.1},
        telemetry={
            "engine_requests_running_mean_count": 1.0, "engine_requests_running_max_count": 1.0,
            "engine_requests_waiting_mean_count": 7.0, "engine_kv_cache_usage_max_fraction": 0.1,
            "engine_preemptions_count": 0.0, "engine_prefix_hit_fraction": 0.5,
            "engine_prompt_tokens_count": 2000.0, "engine_generated_tokens_count": 600.0,
            "engine_queue_mean_seconds": 1.5, "notes": ["a note"],
        },
    )  # fmt: skip


def test_a_benchmark_s_record(tmp_path, capsys):
    slow = point(**{"ttft:p95": 4.0, "ttft:mean": 2.0, "itl:p95": 0.02, "itl:p50": 0.01,
                    "itl:p99": 0.02, "e2e:mean": 3.0, "queue:mean": 1.5})  # fmt: skip
    path = tmp_path / "b.db"
    with Store(path) as store:
        store.append([slow])
    assert advise("--record", str(path)) == FOUND
    said = capsys.readouterr().out
    assert "[batch-capped]" in said and "--max-num-seqs 4" in said and "a note" in said
    # A server that tells nothing of its settings is not taken to have our defaults.
    with Store(tmp_path / "c.db") as store:
        store.append([msgspec.structs.replace(slow, command="", config={})])
    assert advise("--record", str(tmp_path / "c.db")) == ABSTAINED


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "what should be looked at?"),
        (["http://127.0.0.1:1", "--record", "x.db"], "what should be looked at?"),
        (["not a url"], "is no URL"),
        (["--record", "missing.db"], "there is no file"),
        (["http://127.0.0.1:1", "--report", "plan.pdf"], "Markdown or HTML"),
        (["http://127.0.0.1:1", "--set", "nonsense"], "--set"),
        (["--record", "x", "--watch"], "--watch"),
        (["http://127.0.0.1:1", "--api-key-env", "NOT_THERE"], "no variable NOT_THERE"),
        (["http://127.0.0.1:1", "http://127.0.0.1:2", "--allow-load"], "one server"),
        (["--validate", "m", "--flags", "no_such_flag=1"], "--no-such-flag"),
        (["--validate", "m", "--workload", "nothing"], "unknown workload"),
        (["http://127.0.0.1:1", "--slo", "ttft<1parsec"], "parsec"),
    ],
)
def test_mistakes_are_told_before_anything_runs(arguments, said, capsys):
    assert main(["advise", *arguments]) == 1
    assert said in capsys.readouterr().err


def test_a_running_server_is_loaded_only_with_leave_and_with_care(fake_server, monkeypatch, capsys):
    monkeypatch.setattr(careful, "SECONDS", 0.5)
    small = "random:count=6,input=20,output=5,low=65,high=90"
    loaded = ("--allow-load", "--max-rate", "8", "--workload", small)
    code = main(["advise", fake_server.url, "--slo", "ttft:p95<30s", *loaded])
    err = capsys.readouterr().err
    assert code == 0 and err.count("objective met") == 3
    assert "8 sessions/s" in err
    # The first step that breaks the objective is the last one.
    assert main(["advise", fake_server.url, "--slo", "ttft:p95<1us", *loaded]) in (FOUND, ABSTAINED)
    err = capsys.readouterr().err
    assert err.count("objective broken") == 1 and "objective met" not in err
    assert main(["advise", fake_server.url, *loaded[:2], "1000"]) == 1


def test_our_own_server_tells_its_settings(fake_server):
    (window,) = endpoint.look([endpoint.Replica(fake_server.url)], 0.0)
    assert window.engine == "sixfold" and window.settings["batching"] == "continuous"
    assert "cache_dir" not in window.settings, "paths are nobody's business"


def test_a_trace_tells_what_prompts_share(tmp_path, monkeypatch, capsys):
    from sixfold.instrument.advisor.signals import Reading

    told = {"layout_loss": Reading(0.4, "derived", "t"), "shareable": Reading(0.5, "derived", "t")}
    monkeypatch.setattr("sixfold.instrument.advisor.traffic.of_trace", lambda path: dict(told))
    cold = point(**{"ttft:p95": 4.0, "ttft:mean": 2.0, "itl:p95": 0.02, "itl:p50": 0.01,
                    "itl:p99": 0.02, "e2e:mean": 3.0, "queue:mean": 0.1})  # fmt: skip
    cold = msgspec.structs.replace(
        cold, telemetry=cold.telemetry | {"engine_prefix_hit_fraction": 0.05}
    )
    with Store(tmp_path / "b.db") as store:
        store.append([cold])
    assert advise("--record", str(tmp_path / "b.db"), "--trace", "t.jsonl") == FOUND
    assert "[prompt-layout]" in capsys.readouterr().out


def test_a_file_that_is_no_trace(tmp_path, capsys):
    (tmp_path / "t.jsonl").write_text("{}\n")
    with server(metrics(page)) as url:
        assert advise(url, "--look", "0.05", "--trace", str(tmp_path / "t.jsonl")) == 1
    assert "error:" in capsys.readouterr().err
