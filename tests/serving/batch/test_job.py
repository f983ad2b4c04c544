import asyncio
import gzip
import json
import sqlite3
from contextlib import closing

import pytest
from fake_target import FakeTarget, died
from hypothesis import given, settings
from hypothesis import strategies as st
from job_harness import (
    check_complete,
    job_at,
    prompts,
    rows,
    run_async,
    run_job,
    write_lines,
)

from sixfold.core.errors import SixfoldError
from sixfold.serving.batch import job as batch_job
from sixfold.serving.batch.job import finish, open_job
from sixfold.serving.batch.ledger import ERRORS, OUTPUT, Row
from sixfold.serving.batch.lines import Defaults, parse_line
from sixfold.serving.batch.reader import LineReader, Place
from sixfold.serving.batch.rows import row_of
from sixfold.serving.batch.runner import Options
from sixfold.serving.batch.target import Unavailable, answered


@pytest.fixture
def job(tmp_path):
    return job_at(write_lines(tmp_path / "in.jsonl", prompts(500)), tmp_path / "out.jsonl")


def test_every_line_is_answered_once(job):
    target = FakeTarget()
    counts = run_job(job, target)
    check_complete(job, prompts(500))
    assert (counts.done, counts.errors, counts.prompt_tokens, counts.output_tokens) == (
        500, 0, 1500, 1000,
    )  # fmt: skip
    assert target.most == target.places and len(target.calls) == 500
    assert sorted(p.name for p in job.output.parent.iterdir()) == [
        "in.jsonl", "out.jsonl", "out.jsonl.ledger",
    ]  # fmt: skip


def test_a_finished_job_does_nothing_more(job):
    run_job(job)
    before, target = job.output.read_bytes(), FakeTarget()
    assert run_job(job, target).done == 500
    assert not target.calls and job.output.read_bytes() == before


def test_bad_lines_become_errors_and_the_rest_completes(tmp_path):
    lines = [
        b'{"custom_id": "a", "prompt": "x"}', b"{", b'{"prompt": "\xff"}', b"",
        b'{"custom_id": "a", "prompt": "y"}', b'{"custom_id": "b", "prompt": 1, "refuse": 1}',
        b'{"prompt": "' + b"x" * (9 << 20) + b'"}', b'"last"',
    ]  # fmt: skip
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    job = job_at(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    counts = run_job(job)
    assert (counts.done, counts.errors) == (2, 5)
    errors = {row["line"]: row for row in rows(job.errors)}
    assert {line: row["error"]["code"] for line, row in errors.items()} == {
        2: "invalid_json", 3: "invalid_utf8", 5: "duplicate_custom_id", 6: "refused",
        7: "line_too_long",
    }  # fmt: skip
    assert errors[5]["custom_id"] is None and "line 1" in errors[5]["error"]["message"]
    assert errors[6]["custom_id"] == "b" and errors[6]["response"]["status_code"] == 400
    assert [row["custom_id"] for row in rows(job.output)] == ["a", "line-8"]


def test_equal_questions_are_asked_once(tmp_path):
    asked = [{"custom_id": f"{i}", "prompt": f"p{i % 7}", "temperature": 0} for i in range(6000)]
    job = job_at(write_lines(tmp_path / "in.jsonl", asked), tmp_path / "out.jsonl")
    target = FakeTarget()
    counts = run_job(job, target)
    check_complete(job, asked)
    assert len(target.calls) == 7 and counts.copied == 6000 - 7
    ids = [row["id"] for row in rows(job.output)]
    assert len(set(ids)) == 6000


def test_equal_questions_are_found_again_after_a_restart(tmp_path):
    asked = [{"custom_id": f"{i}", "prompt": "p", "temperature": 0} for i in range(3)]
    job = job_at(write_lines(tmp_path / "in.jsonl", asked), tmp_path / "out.jsonl")
    ledger = open_job(job)
    tasks = [parse_line(i + 1, json.dumps(a).encode(), Defaults()) for i, a in enumerate(asked)]
    todo = ledger.register(tasks)
    assert len(todo.tasks) == 3
    ledger.commit([row_of(todo.tasks[0], answered(200, b'{"text":"T"}'))], Place(), 0.0)
    ledger.close()
    target = FakeTarget()
    run_job(job, target)
    assert not target.calls
    assert [row["response"]["body"] for row in rows(job.output)] == [{"text": "T"}] * 3


def test_a_refusal_is_not_copied_but_asked_again(tmp_path):
    asked = [{"custom_id": f"{i}", "prompt": "p", "temperature": 0, "refuse": 1} for i in range(5)]
    job = job_at(write_lines(tmp_path / "in.jsonl", asked), tmp_path / "out.jsonl")
    assert run_job(job).errors == 5
    assert sorted(row["custom_id"] for row in rows(job.errors)) == list("01234")


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_results_can_keep_the_order_and_be_compressed(tmp_path, suffix):
    asked = [*prompts(300), {"custom_id": "bad", "prompt": "x", "refuse": 1}]
    source = write_lines(tmp_path / "in.jsonl", asked)
    job = job_at(source, tmp_path / f"out.jsonl{suffix}", keep_order=True)
    run_job(job, FakeTarget(delay=0.001, seed=3))
    with closing(LineReader(job.output, Place())) as reader:
        found = [json.loads(line.data) for line in reader.lines()]
    assert [row["custom_id"] for row in found] == [item["custom_id"] for item in prompts(300)]
    assert job.errors.name == f"out.errors.jsonl{suffix}" and job.errors.exists()


def test_a_compressed_input_is_read_as_it_is(tmp_path):
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(b'"a"\n"b"\n'))
    job = job_at(tmp_path / "in.jsonl.gz", tmp_path / "out.jsonl")
    assert run_job(job).done == 2


def test_another_input_or_model_is_not_mixed_in(job, tmp_path):
    run_job(job)
    other = job_at(job.input, job.output, answered_by="another")
    with pytest.raises(SixfoldError, match="the settings differ"):
        run_job(other)
    write_lines(job.input, prompts(501))
    with pytest.raises(SixfoldError, match="the input has changed"):
        run_job(job)
    assert run_job(job, restart=True).done == 501
    check_complete(job, prompts(501))


def test_paths_that_can_not_be_are_refused(job, tmp_path):
    job.output.write_text("mine")
    with pytest.raises(SixfoldError, match="is there already"):
        run_job(job)
    assert job.output.read_text() == "mine"
    for bad in (
        job_at(job.input, job.input),
        job_at(tmp_path / "none", tmp_path / "o"),
        job_at(job.input, tmp_path / "no" / "o"),
        job_at(job.input, tmp_path),
    ):
        with pytest.raises(SixfoldError):
            run_job(bad)


def test_one_run_at_a_time(job):
    ledger = open_job(job)
    with pytest.raises(SixfoldError, match="in use by another run"):
        open_job(job)
    with pytest.raises(SixfoldError, match="in use by another run"):
        open_job(job, restart=True)
    ledger.close()
    run_job(job)


def test_a_damaged_ledger_is_said_to_be_one(job):
    job.ledger.write_bytes(b"not a database" * 1000)
    with pytest.raises(SixfoldError, match="no ledger"):
        run_job(job)


def test_a_task_that_failed_is_tried_again_alone_and_then_given_up(job):
    target = FakeTarget()
    target.failing = {
        "id-3": [died(), died()], "id-4": [died() for _ in range(9)],
        "id-5": [Unavailable("busy", busy=True) for _ in range(4)],
    }  # fmt: skip
    counts = run_job(job, target)
    assert (counts.done, counts.errors) == (499, 1)
    assert [row["custom_id"] for row in rows(job.errors)] == ["id-4"]
    assert rows(job.errors)[0]["error"] == {"code": "unavailable", "message": "the engine died"}
    check_complete(job, prompts(500))


def test_a_job_that_nobody_answers_stops_and_goes_on_later(job):
    class Gone(FakeTarget):
        async def answer(self, task, ticket):
            if len(self.calls) > 100:
                raise Unavailable("refused", busy=True)
            return await super().answer(task, ticket)

    with pytest.raises(SixfoldError, match="nobody has answered"):
        run_job(job, Gone(), patience=0.0)
    kept = job.parts[0].read_bytes()
    target = FakeTarget()
    run_job(job, target)
    check_complete(job, prompts(500))
    assert job.output.read_bytes().startswith(kept) and kept.count(b"\n") + len(target.calls) == 500


def test_a_bug_in_what_answers_stops_the_job_and_keeps_what_is_done(job):
    class Buggy(FakeTarget):
        async def answer(self, task, ticket):
            if task.line == 400:
                raise ZeroDivisionError
            return await super().answer(task, ticket)

    with pytest.raises(SixfoldError, match="ZeroDivisionError"):
        run_job(job, Buggy())
    run_job(job)
    check_complete(job, prompts(500))


def test_cancelled_it_commits_what_was_answered(job):
    target = FakeTarget(places=4, delay=0.002)

    async def stopped() -> None:
        task = asyncio.create_task(run_async(job, target, False, Options()))
        while len(target.calls) < 60:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(stopped())
    kept = job.parts[0].read_bytes()
    assert kept.count(b"\n") >= 50
    after = FakeTarget()
    run_job(job, after)
    assert job.output.read_bytes().startswith(kept)
    assert kept.count(b"\n") + len(after.calls) == 500


def test_results_that_something_cut_are_computed_again(job):
    class Half(FakeTarget):
        async def answer(self, task, ticket):
            if len(self.calls) > 300:
                raise Unavailable("gone", busy=True)
            return await super().answer(task, ticket)

    with pytest.raises(SixfoldError):
        run_job(job, Half(), patience=0.0)
    part = job.parts[0]
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    counts = run_job(job)
    assert counts.done == 500
    check_complete(job, prompts(500))


@pytest.mark.parametrize(
    ("name", "call", "does"),
    [
        ("_remake", 1, False), ("_remake", 2, False), ("_remake", 2, True),
        ("_put_in_place", 1, False), ("_put_in_place", 1, True), ("sync_directory", 1, False),
    ],
)  # fmt: skip
def test_finishing_goes_on_wherever_it_was_stopped(tmp_path, monkeypatch, name, call, does):
    asked = [*prompts(20), {"custom_id": "bad", "prompt": "x", "refuse": 1}]
    source = write_lines(tmp_path / "in.jsonl", asked)
    job = job_at(source, tmp_path / "out.jsonl.gz", keep_order=True)
    real, calls = getattr(batch_job, name), []

    def stops(*arguments):
        calls.append(arguments)
        if len(calls) != call or does:
            real(*arguments)
        if len(calls) == call:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(batch_job, name, stops)
    with pytest.raises(SixfoldError, match="put in place"):
        run_job(job)
    monkeypatch.undo()
    target = FakeTarget()
    run_job(job, target)
    assert not target.calls
    wanted = [item["custom_id"] for item in prompts(20)]
    assert [json.loads(line)["custom_id"] for line in unzipped(job.output)] == wanted
    assert len(unzipped(job.errors)) == 1
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob("*.tmp"))


def unzipped(path):
    return gzip.decompress(path.read_bytes()).splitlines()


@given(st.lists(st.tuples(st.integers(1, 60), st.booleans(), st.integers(0, 30)), max_size=40))
@settings(max_examples=8, deadline=None)
def test_the_ledger_agrees_with_a_dictionary(tmp_path_factory, commits):
    directory = tmp_path_factory.mktemp("ledger")
    job = job_at(write_lines(directory / "in", prompts(60)), directory / "out")
    ledger, known = open_job(job), {}
    for line, error, size in commits:
        if line in known:
            continue
        file = ERRORS if error else OUTPUT
        row = Row(line, file, b"x" * size + b"%d\n" % line)
        ledger.commit([row], Place(), 0.0)
        known[line] = row
        if size % 7 == 0:
            ledger.close()
            ledger = open_job(job)
    for file in (OUTPUT, ERRORS):
        mine = [known[line].data for line in sorted(known) if known[line].file == file]
        assert list(ledger.in_order(file)) == mine
        assert ledger.files[file].size == sum(map(len, mine))
    assert (ledger.counts.done, ledger.counts.errors) == (
        sum(r.file == OUTPUT for r in known.values()), sum(r.file == ERRORS for r in known.values())
    )  # fmt: skip
    finish(job, ledger)
    ledger.close()
    with closing(sqlite3.connect(job.ledger)) as db:
        assert db.execute("SELECT count(*) FROM lines").fetchone() == (0,)
