"""`sixfold tune`: plans, errors before anything runs, a real small study and its resumption."""

import sys
from pathlib import Path

import pytest

from sixfold.cli.bench import first_load
from sixfold.cli.main import main
from sixfold.cli.tune import NOTHING_FEASIBLE, WORKLOAD, parser, searcher, seconds, teller
from sixfold.core.errors import ConfigError
from sixfold.core.point import Point
from sixfold.instrument.backends import base
from sixfold.instrument.backends.spec import EngineSpec
from sixfold.instrument.measure import Job
from sixfold.instrument.store.store import Store
from sixfold.instrument.tuner.arguments import jobs_of, plans_of, studies_of
from sixfold.instrument.tuner.outcome import Tried
from sixfold.instrument.tuner.trial import TrialResult
from sixfold.instrument.tuner.tune import Found

TINY = str(Path(__file__).parents[1] / "golden" / "tiny_gguf" / "tiny-llama.gguf")
FAST = ("--workload", "random:count=4,input=30,output=4,low=3,high=100", "--concurrency", "2")
SPACE = ("--space", "max_num_seqs=[1,2]", "--flags", "sixfold:num_kv_blocks=64;max_model_len=256")


def test_a_dry_run_says_what_would_be_tried(capsys, tmp_path):
    store = tmp_path / "t.db"
    assert main(["tune", "m", "--engine", "sixfold,vllm", "--dry-run", "--store", str(store)]) == 0
    shown = capsys.readouterr().out
    assert ": 200 configurations of max_num_seqs=[4, 8, 16, 32, 64]" in shown
    assert "vllm (tested with 0.32.0): " in shown and "dtype" not in shown and not store.exists()
    assert main(["tune", "m", "--allow-lossy", "--dry-run"]) == 0
    assert "dtype=['bf16', 'int8', 'int4']" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--engine", "sixfoold"], "did you mean sixfold?"),
        (["--slo", "ttft<1 tok/s"], "ttft"),
        (["--budget", "soon"], "20m"),
        (["--flags", "sixfold"], "ENGINE:VALUE"),
        (["--concurrency", "1,2"], "one number"),
        (["--engine", "command"], "--space"),
        (["--find-load"], "--slo"),
        (["--find-load", "--slo", "ttft:p95<1s", "--arrivals", "trace"], "--rate"),
        (["--flags", "sixfold:max_num_sqs=1"], "max-num-seqs"),
        (["--flags", "sixfold:max_num_seqs=[1,2]"], "--space"),
        (["--flags", "vllm:max_num_seqs=1"], "--engine vllm"),
        (["--space", "max_num_seqs=[1,2];max_num_sqs=[1,2]"], "max-num-seqs"),
        (["--space", "enable_prefix_cachin=[true,false]"], "enable-prefix-caching"),
        (["--space", "dtype=[bf16,int4]"], "--allow-lossy"),
        (["--objective", "output_throughputs"], "did you mean output_throughput?"),
        (["--objective", "goodput"], "--slo"),
        (["--objective", "chat/ttft:p95"], "write ttft:p95"),
        (["--objective", "cost"], "--price-per-hour"),
        (["--slo", "cost<1"], "--price-per-hour"),
        (["--start-command", "x {port} {args}"], "--engine command"),
        (["--engine", "command", "--start-command", "x {args}", "--space", "a=1"], "{port}"),
        (["--engine", "openai", "--executable", "openai=http://1.2.3.4:1"], "127.0.0.1"),
        (
            ["--engine", "openai", "--executable", "openai=http://127.0.0.1:1", "--space", "a=1"],
            "leave them out",
        ),
        (["--env", "sixfold:HOME"], "ENGINE:NAME=VALUE"),
        (["--client-args", "max_concurrency=4", "--rate", "2"], "--client-args"),
        (["--client-args", "num_prompts=4", "--workload", "chat"], "--workload"),
        (["--client-args", "burstiness=4"], "max_concurrency"),
        (["--engine", "vllm", "--executable", "vllm=/nowhere"], "vllm"),
    ],
)
def test_errors_come_before_anything_runs(capsys, tmp_path, arguments, hint):
    store = tmp_path / "t.db"
    assert main(["tune", TINY, "--store", str(store), *arguments]) == 1
    shown = capsys.readouterr()
    assert hint in shown.err and "starting" not in shown.out


def test_all_engines_are_looked_for_before_the_first_starts(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    store = tmp_path / "t.db"
    arguments = ["--engine", "sixfold,llamacpp", "--store", str(store)]
    assert main(["tune", TINY, *FAST, "--flags", SPACE[3], *arguments]) == 1
    shown = capsys.readouterr()
    assert "llama-server" in shown.err and "starting" not in shown.out and not store.exists()


def test_coupled_flags_are_not_multiplied(capsys):
    assert main(["tune", "m", "--space", "tp*dp=[(1,4),(2,2)]", "--dry-run"]) == 0
    assert ": 2 configurations of tp*dp=[(1, 4), (2, 2)]" in capsys.readouterr().out
    server = ["--server-args", "max-num-seqs=[1,2]", "--client-args"]
    client = "max_concurrency=[4,8];num_prompts=6;random_input_len=20"
    assert main(["tune", "m", *server, client, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == [
        "workload random, concurrency 4",
        "workload random, concurrency 8",
    ]
    assert "6 requests, input mean 20 tokens" in lines[0] and "2 configurations of" in lines[2]


def job_of(*arguments: str) -> Job:
    parsed = parser().parse_args(["m", *arguments])
    (job,) = jobs_of(parsed, lambda: 3, WORKLOAD)
    return job


def test_options_reach_the_job():
    plain, other = job_of(), job_of("--stop-when-saturated", "--price-per-hour", "2.5")
    assert (plain.limits.stop_saturated, plain.price_per_hour, plain.load) == (False, None, 3)
    assert (other.limits.stop_saturated, other.price_per_hour) == (True, 2.5)
    assert job_of("--price-per-hour", "2", "--slo", "cost<1").slo is not None


def test_options_reach_the_engines():
    one, two = plans_of(
        parser().parse_args(
            ["m", "--engine", "sixfold,command", "--start-command", "a {port} {args}",
             "--stop-command", "b", "--ready-path", "/up", "--ready-path", "sixfold=/ready2",
             "--env", "command:A=b=c", "--env", "command:B=", "--space", "max-num-seqs=1",
             "--flags", "command:max-model-len=7"]
        )
    )  # fmt: skip
    assert (one.spec.start_command, one.spec.env, one.spec.ready_path) == ("", {}, "/ready2")
    assert two.spec.start_command == "a {port} {args}" and two.spec.stop_command == "b"
    assert two.spec.env == {"A": "b=c", "B": ""} and two.spec.ready_path == "/up"
    assert two.spec.flags == {"max_model_len": 7}
    assert two.space.configurations() == [{"max_num_seqs": 1}]


@pytest.mark.parametrize(("runs", "asked"), [(["--runs", "3"], 3), ([], 3 * 4)])
def test_a_grid_keeps_to_its_runs(runs, asked):
    arguments = ["m", "--search", "grid", "--space", "a=[1,2];b=[1,2]", *runs]
    parsed = parser().parse_args(arguments)
    search = searcher(parsed, plans_of(parsed)[0])(0.03)
    count = 0
    while (trial := search.ask()) is not None:
        search.tell(trial, TrialResult(score=1.0))
        count += 1
    assert count == asked


def test_studies_are_named_by_all_that_makes_them():
    def name(*arguments: str) -> str:
        parsed = parser().parse_args(["m", *arguments])
        (job,) = jobs_of(parsed, lambda: first_load(parsed), WORKLOAD)
        return studies_of(parsed, plans_of(parsed), job, 1.0)[0].name

    changes = (
        [], ["--rate", "2"], ["--env", "sixfold:A=b"], ["--executable", "sixfold=x"],
        ["--price-per-hour", "1"], ["--client-args", "max_concurrency=4"], ["--seed", "1"],
        ["--client-args", "num_prompts=4"], ["--slo", "ttft<1s"], ["--arrivals", "trace"],
        ["--space", "a=1"], ["--objective", "ttft"], ["--search", "grid"], ["--allow-lossy"],
    )  # fmt: skip
    assert len({name(*change) for change in changes}) == len(changes)
    assert name() == name("--budget", "9h") and name("--study", "x") == "x"


def test_a_new_version_of_the_engine_is_said(capsys):
    tell = teller("output_throughput")
    for version in ("1.0", "", "1.0", "1.1", "1.1"):
        point = Point(id="x", date="now", engine="vllm", model="m", engine_version=version)
        tell(point, 0.5)
    lines = [line for line in capsys.readouterr().out.splitlines() if "this is" in line]
    assert len(lines) == 1 and "vllm 1.1, runs before were of 1.0" in lines[0]


def test_the_exit_code_is_of_what_is_recommended(capsys, tmp_path, monkeypatch):
    """A winner of the tuning that breaks the objectives in the finals, as the defaults do."""

    def one(ttft: float, seqs: int) -> tuple[Point, ...]:
        return (Point(id="x", date="now", engine="e", model="m", config={"max_num_seqs": seqs},
                      command="serve it", values={"ttft:p95": ttft, "goodput": 1.0}),)  # fmt: skip

    def ended(*_arguments: object) -> Found:
        return Found(
            baseline=Tried(key="a", points=one(0.5, 1)), winner=Tried(key="b", points=one(0.5, 2)),
            final_baseline=one(final, 1), final_winner=one(9.0, 2), runs=4, resumed=0,
            configurations=2,
        )  # fmt: skip

    monkeypatch.setattr("sixfold.instrument.tuner.tune.tune", ended)
    command = ["tune", TINY, *FAST, *SPACE, "--slo", "ttft:p95<1s", "--store", str(tmp_path / "t")]
    final = 0.5
    assert main(command) == 0
    assert "recommended: the defaults" in capsys.readouterr().out
    final = 9.0
    assert main(command) == NOTHING_FEASIBLE
    assert "serve it" not in capsys.readouterr().out


def test_budgets_are_times():
    assert (seconds("90s"), seconds("1.5m"), seconds("2h"), seconds("7")) == (90, 90, 7200, 7)
    with pytest.raises(ConfigError):
        seconds("0s")


def test_a_study_ends_with_a_call_and_goes_on_where_it_was(capsys, tmp_path):
    store, page = tmp_path / "t.db", tmp_path / "page.html"
    command = ["tune", TINY, *FAST, *SPACE, "--store", str(store), "--budget", "10m",
               "--slo", "e2e:p95<1m", "--runs", "3", "--explorer", str(page)]  # fmt: skip
    assert main(command) == 0
    first = capsys.readouterr().out
    assert "run it with:\n  sixfold serve" in first and "--num-kv-blocks 64" in first
    assert page.stat().st_size > 10_000
    assert main([*command, "--search", "auto"]) == 0
    again = capsys.readouterr().out
    assert "runs were taken from before" in again and "starting" not in again


def test_nothing_feasible_is_said_and_has_an_exit_code(capsys, tmp_path):
    arguments = ["--slo", "ttft:p95<1us", "--runs", "2", "--store", str(tmp_path / "t.db")]
    code = main(["tune", TINY, *FAST, *SPACE, "--budget", "20s", *arguments])
    assert code == NOTHING_FEASIBLE
    assert "nothing of" in capsys.readouterr().out


def test_a_command_of_the_users_own_is_tuned(capsys, tmp_path):
    """Its flags come from the space; the environment is part of the command of each point."""
    template = f"{sys.executable} -m sixfold serve {{model}} --host 127.0.0.1 --port {{port}}"
    fixed = "--num-kv-blocks 64 --max-model-len 256 {args}"
    store = tmp_path / "t.db"
    code = main(
        ["tune", TINY, *FAST, "--engine", "command", "--start-command", f"{template} {fixed}",
         "--ready-path", "/ready", "--env", "command:SIXFOLD_MARK=7", "--runs", "2",
         "--space", "max-num-seqs=[1,2]", "--store", str(store), "--budget", "5m"]
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert code == 0 and "run it with:\n  env SIXFOLD_MARK=7 " in shown
    with Store(store) as opened:
        points = [point for _, point in opened.points()]
    assert {point.status for point in points} == {"ok"}
    flags = {"".join(point.command.partition("--max-num-seqs ")[1:]) for point in points}
    assert flags == {"", "--max-num-seqs 1", "--max-num-seqs 2"}


def test_a_server_that_runs_is_measured_as_it_is(capsys, tmp_path):
    flags: dict[str, bool | int | float | str] = {"num_kv_blocks": 64, "max_model_len": 256}
    running = base.start(EngineSpec(engine="sixfold", model=TINY, flags=flags), log_dir=tmp_path)
    store = tmp_path / "t.db"
    try:
        code = main(
            ["tune", "m", *FAST, "--engine", "openai", "--executable", f"openai={running.url}",
             "--slo", "e2e:p95<1m", "--store", str(store), "--budget", "5m"]
        )  # fmt: skip
    finally:
        base.stop(running)
    shown = capsys.readouterr().out
    assert code == 0 and "openai: as it is" in shown and "only the defaults were run" in shown
    assert "run it with" not in shown
    with Store(store) as opened:
        assert [point.status for _, point in opened.points()] == ["ok"] * 3


def test_loads_are_tuned_in_turn(capsys, tmp_path):
    store = tmp_path / "t.db"
    code = main(
        ["tune", TINY, "--workload", FAST[1], *SPACE, "--client-args", "max_concurrency=[1,2]",
         "--runs", "1", "--store", str(store), "--budget", "5m"]
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert code == 0 and shown.count("run it with") == 2
    with Store(store) as opened:
        points = [point for _, point in opened.points()]
    assert [load for load in dict.fromkeys(p.load["concurrency"] for p in points)] == [1, 2]
    assert len({point.study for point in points}) == 2
