"""The tuner tries everything, prefers the default in doubt, and tries only once per CPU."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from sixfold.engine.runner import autotune
from sixfold.engine.runner.autotune import CHUNKS, DISTANCES, FILE, Tuning, tuned

OPTIONS = SimpleNamespace(threads=2, isa="avx2")


class Pretender:
    """A model whose forward takes what `cost` says of its tuning, on a clock of its own."""

    num_ops, num_kv_groups = 10, 1

    def __init__(self, cost: dict[Tuning, float]) -> None:
        self.cost, self.now, self.tuning = cost, 0.0, Tuning()
        self.tried: set[Tuning] = set()

    def set_tuning(self, chunks: int, distance: int) -> None:
        self.tuning = Tuning(chunks, distance)
        self.tried.add(self.tuning)

    def forward(self, _step: object, begin: int = 0, end: int | None = None) -> None:
        share = ((self.num_ops if end is None else end) - begin) / self.num_ops
        self.now += share * self.cost.get(self.tuning, 1e-3)


def run(monkeypatch: pytest.MonkeyPatch, model: Pretender, cache: Path) -> Tuning:
    monkeypatch.setattr(autotune.time, "perf_counter", lambda: model.now)
    return tuned(model, OPTIONS, cache)  # type: ignore[arg-type]


def test_takes_the_fastest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fast = {Tuning(16, 8192): 0.9e-3, Tuning(16, 0): 0.8e-3, Tuning(4, 0): 0.1e-3}
    model = Pretender(fast)
    assert run(monkeypatch, model, tmp_path) == Tuning(16, 0)
    assert {t.chunks for t in model.tried} == set(CHUNKS)
    assert {t.distance for t in model.tried} == set(DISTANCES)


def test_keeps_the_default_in_doubt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run(monkeypatch, Pretender({Tuning(16): 0.98e-3}), tmp_path) == Tuning()


def test_tries_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = run(monkeypatch, Pretender({Tuning(4): 0.5e-3}), tmp_path)
    again = Pretender({})
    assert run(monkeypatch, again, tmp_path) == first == Tuning(4)
    assert not again.tried


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"x": {"chunks": "many"}}'])
def test_a_damaged_file_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: bytes
) -> None:
    (tmp_path / FILE).write_bytes(damage)
    assert run(monkeypatch, Pretender({Tuning(4): 0.5e-3}), tmp_path) == Tuning(4)
    assert run(monkeypatch, Pretender({}), tmp_path) == Tuning(4)


@pytest.mark.parametrize("values", ['"chunks":0', '"chunks":-8', '"distance":1e9', '"distance":-1'])
def test_what_could_not_have_been_found_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, values: str
) -> None:
    run(monkeypatch, Pretender({}), tmp_path)
    file = tmp_path / FILE
    key = file.read_text().split(":{")[0]
    file.write_text(f"{key}:{{{values}}}}}")
    assert run(monkeypatch, Pretender({Tuning(4): 0.5e-3}), tmp_path) == Tuning(4)


def test_a_large_model_is_tried_in_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = Pretender({Tuning(c, d): 2.0 for c in CHUNKS for d in DISTANCES})
    run(monkeypatch, model, tmp_path)
    assert model.now < 30, "two whole forwards and two measured ones, the rest a tenth each"
