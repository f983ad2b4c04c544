"""`sixfold compare`: calls, limits and exit codes on made-up repeats."""

import random

import pytest
from msgspec.structs import replace

from sixfold.cli.compare import BROKEN, UNSURE
from sixfold.cli.main import main
from sixfold.core.point import Point
from sixfold.instrument.store.lines import write_lines
from sixfold.instrument.store.store import Store


def points(study: str, speed: float, count: int, noise: float = 0.01, seqs: int = 4) -> list[Point]:
    rng = random.Random(f"{study}{speed}{count}")
    return [
        Point(
            id=f"{study}-{speed}-{i}",
            study=study,
            date="2026-01-01T00:00:00Z",
            engine="e",
            model="m",
            config={"seqs": seqs},
            values={
                "output_throughput": 100 * speed * rng.lognormvariate(0, noise),
                "ttft:p95": 0.5 / speed * rng.lognormvariate(0, noise),
            },
        )
        for i in range(count)
    ]


@pytest.fixture
def files(tmp_path):
    def write(name: str, *sides: list[Point]) -> str:
        path = tmp_path / name
        if name.endswith(".db"):
            with Store(path) as store:
                store.append([point for side in sides for point in side])
        else:
            write_lines(path, [point for side in sides for point in side])
        return str(path)

    return write


def test_a_regression_is_called_and_fails_the_limit(files, capsys):
    before, after = files("a.db", points("a", 1.0, 6)), files("b.jsonl", points("b", 0.8, 6))
    assert main(["compare", before, after, "--fail-if", "ttft:p95 > +5%"]) == BROKEN
    shown = capsys.readouterr().out
    assert "WORSE        output_throughput: -2" in shown and "fail    ttft:p95 > +5%" in shown


def test_the_same_passes_and_noise_is_unsure(files, capsys):
    before, same = files("a.db", points("a", 1.0, 8)), files("b.db", points("b", 1.0, 8))
    limits = "ttft:p95 > +5%; output_throughput < -5%"
    assert main(["compare", before, same, "--fail-if", limits]) == 0
    assert "GAIN        " not in capsys.readouterr().out
    noisy = files("c.db", points("c", 0.95, 3, noise=0.2))
    assert main(["compare", before, noisy, "--fail-if", limits]) == UNSURE


def test_sides_of_one_store_are_chosen_by_study(files, capsys):
    both = files("a.db", points("main", 1.0, 4), points("branch", 1.2, 4, seqs=8))
    assert main(["compare", both, both]) == 1
    assert "several configurations" in capsys.readouterr().err
    arguments = ["--study-a", "main", "--study-b", "branch", "--paired"]
    assert main(["compare", both, both, *arguments]) == 0
    assert "GAIN         output_throughput: +" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fail-if", "ttft:p95 > 5%"], "rises or falls"),
        (["--fail-if", "itl:p95 > +5%"], "itl:p95 can't be compared"),
        (["--study-b", "none"], "no such point"),
    ],
)
def test_what_cannot_be_judged_is_an_error(files, capsys, arguments, said):
    before = files("a.db", points("a", 1.0, 3))
    assert main(["compare", before, before, *arguments]) == 1
    assert said in capsys.readouterr().err
    assert main(["compare", before, "nowhere.db"]) == 1


LIMIT = ["--fail-if", "ttft:p95 > +5%"]


def failed(point: Point) -> Point:
    return replace(point, id=point.id + "-failed", status="timed_out", reason="too slow", values={})


def with_value(side: list[Point], key: str, values: list[float]) -> list[Point]:
    pairs = zip(side, values, strict=True)
    return [replace(p, values=p.values | {key: value}) for p, value in pairs]


def test_runs_that_failed_on_one_side_only_fail_the_comparison(files, capsys):
    before, after = points("a", 1.0, 12), points("b", 1.0, 12)
    a = files("a.db", before)
    b = files("b.db", after[:3] + [failed(p) for p in after[3:]])
    assert main(["compare", a, b, *LIMIT]) == BROKEN
    assert "9 of 12 runs of B failed, 0 of 12 of A; the first: timed_out" in capsys.readouterr().out
    assert main(["compare", a, b]) == BROKEN
    none = files("c.db", [failed(p) for p in after])
    assert main(["compare", a, none, *LIMIT]) == BROKEN
    assert main(["compare", none, a, *LIMIT]) == 1


def test_failures_that_both_sides_have_leave_a_limit_open(files, capsys):
    sides = [points(name, 1.0, 12) for name in "ab"]
    names = [files(f"{i}.db", [failed(s[0]), *s[1:]]) for i, s in enumerate(sides)]
    assert main(["compare", *names, *LIMIT]) == UNSURE
    assert "1 of 12 runs of B did not measure it, 1 of them failed" in capsys.readouterr().out
    assert main(["compare", *names, *LIMIT, "--paired"]) == UNSURE
    fewer = files("a.db", sides[0])
    assert main(["compare", names[0], fewer, *LIMIT]) == 0, "only the baseline had failures"


def test_a_number_that_some_runs_lack_leaves_a_limit_open(files, capsys):
    before, after = points("a", 1.0, 8), points("b", 1.0, 8)
    after[0] = replace(after[0], values={"output_throughput": 100.0})
    names = files("a.db", before), files("b.db", after)
    assert main(["compare", *names, *LIMIT]) == UNSURE
    assert main(["compare", *names, "--fail-if", "ttft:p95 < -5%"]) == UNSURE


@pytest.mark.parametrize(
    ("key", "before", "after", "limit", "code"),
    [
        ("error_rate", [0.0] * 6, [0.0] * 6, "error_rate > +1%", 0),
        ("error_rate", [0.0] * 6, [0.004] * 6, "error_rate > +1%", 0),
        ("error_rate", [0.0] * 6, [0.03, 0.02, 0.03, 0.02, 0.03, 0.03], "error_rate > +1%", BROKEN),
        ("error_rate", [0.0] * 6, [0.0] * 5 + [0.2], "error_rate > +1%", UNSURE),
        ("goodput", [5.0] * 12, [5.0] * 3 + [0.0] * 9, "goodput < -3%", BROKEN),
        ("goodput", [0.0] * 6, [0.0] * 6, "goodput < -3%", 0),
        ("preemptions", [0.0] * 6, [3.0, 4.0] * 3, "preemptions > +50%", BROKEN),
        ("preemptions", [3.0, 4.0] * 3, [0.0] * 6, "preemptions > +50%", 0),
    ],
)
def test_values_of_nothing_are_values(files, capsys, key, before, after, limit, code):
    a = files("a.db", with_value(points("a", 1.0, len(before)), key, before))
    b = files("b.db", with_value(points("b", 1.0, len(after)), key, after))
    assert main(["compare", a, b, "--fail-if", limit]) == code
    if key == "error_rate":
        assert "percentage points" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [{"model": "other"}, {"workload": {"name": "chat"}}, {"load": {"concurrency": 8}}],
)
def test_runs_of_different_things_are_not_compared_unasked(files, capsys, change):
    other = [replace(p, **change) for p in points("b", 1.0, 6)]
    names = files("a.db", points("a", 1.0, 6)), files("b.db", other)
    assert main(["compare", *names, *LIMIT]) == 1
    shown = capsys.readouterr().err
    assert f"differ in {next(iter(change))}" in shown and "--allow-different" in shown
    assert main(["compare", *names, *LIMIT, "--allow-different"]) == 0


def test_failed_runs_of_another_configuration_are_not_repeats(files, capsys):
    side = points("a", 1.0, 4)
    name = files("a.db", [*side, failed(replace(side[0], config={"seqs": 8}))])
    assert main(["compare", name, name]) == 1
    assert "several configurations" in capsys.readouterr().err
