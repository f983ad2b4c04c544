"""`sixfold bench` against a real server (with the fake engine): points, objectives, exit codes."""

import json

import pytest
from server_harness import PATIENCE, Server

from sixfold.cli.bench import BROKEN
from sixfold.cli.main import main
from sixfold.core.slo_presets import PRESETS
from sixfold.instrument.store.store import Store

SMALL = "random:count=6,input=20,output=5,low=65,high=90"
"""Capitals only: the fake engine obeys some words of small letters."""


@pytest.fixture(scope="module")
def server(fake_server):
    return fake_server


def bench(server: Server, *arguments: str) -> int:
    return main(["bench", "--url", server.url, "--workload", SMALL, *arguments])


def test_each_load_is_a_point_that_is_kept(server, tmp_path, capsys):
    path = tmp_path / "bench.db"
    assert bench(server, "--concurrency", "1,3", "--store", str(path), "--json") == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    with Store(path) as store:
        kept = [point for _, point in store.points()]
    assert [p["id"] for p in printed] == [p.id for p in kept]
    assert [p.load for p in kept] == [{"concurrency": 1}, {"concurrency": 3}]
    assert kept[0].key != kept[1].key
    for point in kept:
        assert point.status == "ok" and point.values["requests"] == 6
        assert point.values["error_rate"] == 0 and point.values["ttft:p95"] > 0
        assert point.fingerprint["requests"] == 6 and point.machine is not None
        assert {"client_bound", "lag_p99", "stopped"} <= set(point.client)


def test_repeats_with_other_prompts_share_a_key(server, tmp_path, capsys):
    path = tmp_path / "bench.db"
    for seed in ("1", "2"):
        bench(server, "--seed", seed, "--concurrency", "2", "--store", str(path), "--no-warmup")
    with Store(path) as store:
        first, second = (point for _, point in store.points())
    assert first.key == second.key
    assert first.fingerprint["id"] != second.fingerprint["id"]


@pytest.mark.parametrize(
    ("slo", "code", "word"),
    [
        ("e2e:p99.5<1m and error_rate<=0", 0, "met"),
        ("ttft:p50<1us", BROKEN, "broken"),
        ("acceptance_rate>1%", BROKEN, "unknown"),
    ],
)
def test_objectives_decide_the_exit_code(server, capsys, slo, code, word):
    assert bench(server, "--rate", "50", "--slo", slo, "--no-warmup") == code
    assert f"objectives {word}" in capsys.readouterr().out


def test_queue_time_is_the_servers_own(server, capsys):
    """The fake engine says that each request waited 1 ms."""
    objective = "queue:mean<=1.001ms and queue:mean>=0.999ms and queue:p95<1.001ms"
    assert bench(server, "--concurrency", "2", "--slo", objective) == 0
    assert "objectives met" in capsys.readouterr().out
    assert bench(server, "--slo", "queue:p95<1us") == BROKEN
    assert bench(server, "--slo", "queue:p95<1s", "--no-telemetry") == BROKEN


@pytest.mark.parametrize(
    ("pattern", "code", "said"),
    [("*h100*", 0, "objectives met"), ("*a100*", 1, "no price for 'H100 x8'")],
)
def test_prices_are_looked_up_by_the_points_hardware(server, tmp_path, capsys, pattern, code, said):
    table = tmp_path / "prices.toml"
    table.write_text(f'"{pattern}" = 31.5\n"*x8" = 9999999\n' if code == 0 else f'"{pattern}" = 3')
    arguments = ["--hardware", "H100 x8", "--price-per-hour", str(table), "--slo", "cost>0"]
    assert bench(server, *arguments) == code
    shown = capsys.readouterr()
    assert said in shown.out + shown.err


MIXED = (
    "random:count=4,input=20,output=5,low=65,high=90,class=chat; "
    "random:count=2,input=40,output=9,low=65,high=90,class=batch"
)


@pytest.mark.parametrize(
    ("slo", "code", "said"),
    [
        ("chat/ttft:p95<1m and batch/e2e:p95<1m", 0, "objectives met"),
        ("chat/ttft:p95<1m and batch/e2e:p95<1us", BROKEN, "broken   batch/e2e:p95<0.001ms"),
        ("code/ttft:p95<1m", 1, "no class 'code'"),
    ],
)
def test_each_class_has_objectives_of_its_own(server, capsys, slo, code, said):
    url = ["bench", "--url", server.url, "--no-warmup"]
    assert main([*url, "--workload", MIXED, "--concurrency", "2", "--slo", slo]) == code
    shown = capsys.readouterr()
    assert said in shown.out + shown.err


def test_lines_of_a_file_have_classes(server, tmp_path, capsys):
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "A" * 20, "max_tokens": 4, "class": name} for name in ("chat", "batch")]
    path.write_text("\n".join(map(json.dumps, rows)))
    url = ["bench", "--url", server.url, "--workload", f"jsonl:file={path}", "--json"]
    assert main([*url, "--slo", "chat/ttft:p95<1m and batch/error_rate<=0"]) == 0
    (point,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert point["values"]["chat/requests"] == point["values"]["batch/requests"] == 1


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--slo", "tfft<1"], "did you mean ttft?"),
        (["--slo", "cost<1"], "give --price-per-hour"),
        (["--workload", "rnadom"], "did you mean random?"),
        (["--concurrency", "two"], "write 8 or 1,4,16"),
        (["--concurrency", "2", "--rate", "1"], "give one of them"),
        (["--extra-body", "[1]"], "write"),
        (["--url", "http://192.0.2.1:1"], "consent"),
        (["--url", "http://192.0.2.1:1", "--wait", "9"], "consent"),
        (["--find-load"], "--slo"),
        (["--rate", "3", "--arrivals", "ramp"], "--rate-to"),
        (["--rate", "0"], "above 0"),
        (["--rate", "0", "--concurrency", "2"], "give one of them"),
        (["--arrivals", "constant"], "give --rate"),
        (["--burstiness", "0.5"], "give --rate"),
        (["--concurrency", "0"], "write 8 or 1,4,16"),
        (["--price-per-hour", "-1"], "0 or more"),
        (["--price-per-hour", "nowhere.toml"], "prices.toml"),
    ],
)
def test_errors_come_before_any_load(server, capsys, arguments, hint):
    assert main(["bench", "--url", server.url, *arguments]) == 1
    shown = capsys.readouterr()
    assert hint in shown.err and shown.out == ""


def test_a_ramp_is_a_load(server, capsys):
    assert bench(server, "--rate", "20", "--rate-to", "60", "--arrivals", "ramp", "--json") == 0
    (point,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert point["load"] == {"arrivals": "ramp", "rate": 20, "rate_to": 60, "seconds": 60}


def test_the_highest_load_is_looked_for_below_one_that_misses(server, tmp_path, capsys):
    path = tmp_path / "bench.db"
    command = ["--concurrency", "3", "--slo", "ttft:p50<1us", "--find-load", "--store", str(path)]
    assert bench(server, *command) == BROKEN
    assert ": none: misses already at 1 at once" in capsys.readouterr().out
    with Store(path) as store:
        kept = [point for _, point in store.points()]
    loads = [point.load["concurrency"] for point in kept]
    assert loads[0] == 3 and loads[-1] == 1
    assert len({point.seed for point in kept}) == len(kept), "prompts of their own"


def test_waits_for_a_server_that_still_starts(tmp_path, capsys):
    """The port answers only after the client has begun to ask."""
    starting = Server()
    try:
        command = ["bench", "--url", starting.url, "--workload", SMALL, "--wait", str(PATIENCE)]
        assert main(command) == 0
    finally:
        assert starting.stop() == 0
        starting.close()


def test_a_dead_server_is_named(capsys):
    assert main(["bench", "--url", "http://127.0.0.1:9"]) == 1
    assert "sixfold serve" in capsys.readouterr().err
    assert main(["bench", "--url", "http://127.0.0.1:9", "--model", "m"]) == 1
    assert "right URL and model?" in capsys.readouterr().err


def test_lists_the_workloads(capsys):
    assert main(["bench", "--list"]) == 0
    shown = capsys.readouterr().out
    assert "shared-prefix" in shown
    for preset in PRESETS.values():
        assert f"preset:{preset.name}: {preset.text}" in shown and preset.source in shown
