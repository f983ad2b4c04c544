"""A server that the user's own command starts: examined with its real metrics, given real flags."""

import sys
from pathlib import Path

import pytest

from sixfold.cli.main import main
from sixfold.core.slo import parse_slo
from sixfold.instrument.advisor.proof import Loop, Subject
from sixfold.instrument.advisor.remedies import Step
from sixfold.instrument.advisor.validate import Trial
from sixfold.instrument.backends.spec import EngineSpec
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.measure import Job
from sixfold.instrument.store.store import Store
from sixfold.instrument.tuner.runner import PlannedRun, Runner
from sixfold.instrument.workloads.presets import parse_workload

MODEL = Path(__file__).parents[2] / "golden" / "tiny_gguf" / "tiny-llama.gguf"
START = (
    f"{sys.executable} -m sixfold serve {{model}} --port {{port}} --max-model-len 256 "
    "--kv-cache-memory-mb 32 --max-num-seqs 1 {args}"
)


SPEC = EngineSpec(engine="command", model=str(MODEL), start_command=START, ready_path="/ready")

STEP = Step(
    remedy="more-slots", strategy="continuous batching", do="more", against="batch-capped",
    changes={"max_num_seqs": 4}, flags="--max-num-seqs 4",
)  # fmt: skip


def subject() -> Subject:
    return Subject(
        spec=SPEC,
        job=Job(
            target=Target(url="http://127.0.0.1:1", extra={"temperature": 0, "ignore_eos": True}),
            workload=parse_workload("random:count=960,input=20,output=160,low=40,high=90"),
            load=8,
            slo=parse_slo("ttft:p95<1us"),
        ),
        workload="random",
        speaks="sixfold",
    )


def test_the_users_command_is_examined_and_given_a_remedy_s_flags(tmp_path: Path) -> None:
    with Store(tmp_path / "s.db") as store, Runner(tmp_path / "logs", print, None) as runner:
        loop = Loop(subject(), runner, store)
        advice = loop.examine({"max_num_seqs": 1})
        assert advice.engine == "sixfold"
        # The command may set anything: what it does not tell, and nobody says, is not assumed.
        assert advice.settings == {"max_num_seqs": 1}
        assert advice.readings["running_max"].value == 1
        trial = Trial(name="t", spec=SPEC, step=STEP, job=loop.subject.job)
        point = runner.run(PlannedRun(study="t", spec=trial.changed, repeat=0), trial.job)
        assert point.status == "ok" and runner.starts == 2
        # Of a dozen looks in some ten seconds: slots fill and empty in milliseconds.
        assert point.telemetry["engine_requests_running_max_count"] > 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--validate", "m", "--start-command", "x {port} {args}"], "without consent"),
        (["--validate", "m", "--engine", "command"], "whose flags it takes"),
        (["--validate", "m", "--engine", "openai"], "whose flags it takes"),
        (["--validate", "m", "--allow-restart"], "no command that starts"),
        (["--validate", "m", "--allow-restart", "--start-command", "x"], "needs {port} and {args}"),
        (["http://127.0.0.1:1", "--allow-restart"], "without --validate"),
    ],
)
def test_nothing_is_restarted_without_consent(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["advise", "--slo", "ttft:p95<1s", *arguments]) == 1
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir()), "nothing was begun"
