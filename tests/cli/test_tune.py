"""`sixfold tune`: plans, errors before anything runs, a real small study and its resumption."""

from pathlib import Path

import pytest

from sixfold.cli.main import main
from sixfold.cli.tune import NOTHING_FEASIBLE, seconds
from sixfold.core.errors import ConfigError

TINY = str(Path(__file__).parents[1] / "golden" / "tiny_gguf" / "tiny-llama.gguf")
FAST = ("--workload", "random:count=4,input=30,output=4,low=3,high=100", "--concurrency", "2")
SPACE = ("--space", "max_num_seqs=[1,2]", "--flags", "sixfold:num_kv_blocks=64;max_model_len=256")


def test_a_dry_run_says_what_would_be_tried(capsys, tmp_path):
    store = tmp_path / "t.db"
    assert main(["tune", "m", "--engine", "sixfold,vllm", "--dry-run", "--store", str(store)]) == 0
    shown = capsys.readouterr().out
    assert ": 100 configurations of max_num_seqs=[4, 8, 16, 32, 64]" in shown
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
        (["--engine", "vllm", "--executable", "vllm=/nowhere"], "vllm"),
    ],
)
def test_errors_come_before_anything_runs(capsys, tmp_path, arguments, hint):
    store = tmp_path / "t.db"
    assert main(["tune", TINY, "--store", str(store), *arguments]) == 1
    shown = capsys.readouterr()
    assert hint in shown.err and "starting" not in shown.out


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
