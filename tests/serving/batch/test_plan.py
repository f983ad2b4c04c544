import asyncio
import gzip
import json

import pytest
from fake_target import FakeTarget
from job_harness import write_lines

from sixfold.core.errors import SixfoldError
from sixfold.serving.batch.lines import Defaults
from sixfold.serving.batch.plan import Plan, Sample, Speed, plan, sample, speed, wanted


def items(count: int) -> list[dict]:
    return [{"custom_id": f"{i}", "prompt": "x" * 400, "max_tokens": 10} for i in range(count)]


@pytest.mark.parametrize("count", [1, 5, 2000])
def test_a_sample_stands_for_all_lines(tmp_path, count):
    source = write_lines(tmp_path / "in.jsonl", items(count))
    found = sample(source, Defaults())
    assert found.lines == pytest.approx(count, rel=0.02)
    assert found.bad == 0 and 1 <= len(found.tasks) <= 65
    assert len({task.line for task in found.tasks}) == len(found.tasks)


def test_bad_lines_are_a_part_of_it(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps("good") + "\n" + "broken\n" for _ in range(500)))
    found = sample(source, Defaults())
    assert found.lines == pytest.approx(1000, rel=0.1) and 0.3 < found.bad < 0.7
    source.write_text("broken\n")
    with pytest.raises(SixfoldError, match="no line that can be run"):
        sample(source, Defaults())


def test_a_compressed_input_is_guessed_from_its_beginning(tmp_path):
    source = tmp_path / "in.jsonl.gz"
    source.write_bytes(gzip.compress(b"".join(json.dumps(i).encode() + b"\n" for i in items(200))))
    assert len(sample(source, Defaults()).tasks) == 64


def test_a_plan_is_the_sum_of_reading_and_writing(tmp_path):
    source = write_lines(tmp_path / "in.jsonl", items(1000))
    found = plan(
        sample(source, Defaults()), Speed(reading=1000, writing=50, tokens_per_character=0.25)
    )
    assert found.lines == pytest.approx(1000, rel=0.02)
    assert found.seconds == pytest.approx(1000 * (100 / 1000 + 10 / 50), rel=0.02)
    assert found.holds(400) and not found.holds(310)
    assert found.cost(3.6) == pytest.approx(found.seconds / 1000)
    assert isinstance(found, Plan)


def test_speed_is_taken_from_lines_of_the_job(tmp_path):
    source = write_lines(tmp_path / "in.jsonl", items(10))
    target = FakeTarget(places=4, delay=0.001)
    found = asyncio.run(speed(target, sample(source, Defaults()).tasks, 8))
    assert found.reading > 0 and found.writing > 0 and found.tokens_per_character > 0
    assert target.most <= 4 and len(target.calls) == 17


def test_what_a_line_may_write(tmp_path):
    bodies = [
        ({"prompt": "x", "max_tokens": 7, "n": 2}, 14), ({"prompt": "x"}, 256), ({"input": "x"}, 0),
        ({"messages": [], "max_completion_tokens": 5, "max_tokens": 9}, 5),
        ({"prompt": "x", "max_tokens": "many"}, 256),
    ]  # fmt: skip
    for body, most in bodies:
        source = write_lines(tmp_path / "in.jsonl", [body])
        found = sample(source, Defaults())
        assert isinstance(found, Sample) and wanted(found.tasks[0]) == most
