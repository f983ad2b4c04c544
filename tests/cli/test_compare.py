"""`sixfold compare`: calls, limits and exit codes on made-up repeats."""

import random

import pytest

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
        (["--fail-if", "itl:p95 > +5%"], "itl:p95 can be compared"),
        (["--study-b", "none"], "no point that was served"),
    ],
)
def test_what_cannot_be_judged_is_an_error(files, capsys, arguments, said):
    before = files("a.db", points("a", 1.0, 3))
    assert main(["compare", before, before, *arguments]) == 1
    assert said in capsys.readouterr().err
    assert main(["compare", before, "nowhere.db"]) == 1
