"""Other tools' results: exact numbers in base units, twice is once, damage is a ConfigError."""

import copy
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from instrument.store import samples
from sixfold.cli.main import main
from sixfold.core.errors import ConfigError
from sixfold.core.metric_names import METRICS
from sixfold.core.point import Point
from sixfold.core.slo_clause import canonical_stat
from sixfold.instrument.store.importers import read
from sixfold.instrument.store.importers.read import FORMATS, read_results
from sixfold.instrument.store.lines import read_lines, write_lines
from sixfold.instrument.store.store import Store


def read_one(tmp_path: Path, document: Any) -> Point:
    (found,) = read_text(tmp_path, json.dumps(document))
    return found


def read_text(tmp_path: Path, text: str, name: str = "results.json") -> list[Point]:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_results(path)


def test_an_llm_optimizer_sweep(tmp_path: Path) -> None:
    first, second = read_text(tmp_path, json.dumps(samples.optimizer_sweep(), indent=2))
    assert first.values == {
        "request_throughput": 4.5,
        "input_throughput": 4608.0,
        "output_throughput": 576.0,
        "ttft:mean": 0.15,
        "ttft:p50": 0.14,
        "ttft:p95": 0.25,
        "e2e:p99": 2.5,
        "tpot:mean": 0.0125,
        "itl:p95": 0.02,
    }
    assert (first.engine, first.model, first.hardware) == ("sglang", "org/model", "H100 x2")
    assert first.config == {"tp_size": 2, "chunked_prefill_size": 4096}
    assert first.workload == {"name": "random", "isl": 1024, "osl": 128}
    assert first.load == {"requests": 200, "concurrency": 8}
    assert first.command.startswith("python3 -m sglang") and first.seed == 1
    assert (first.source, first.origin) == ("imported", "llm-optimizer, results.json")
    assert second.load["concurrency"] == 16 and second.values["ttft:mean"] == 0.3


def test_a_vllm_result(tmp_path: Path) -> None:
    found = read_one(tmp_path, samples.vllm_result())
    assert found.values == {
        "request_throughput": 4.75,
        "output_throughput": 950.0,
        "total_throughput": 1425.0,
        "ttft:mean": 0.25,
        "ttft:p50": 0.2,
        "ttft:p99": 0.9,
        "ttft:p99.9": 0.95,
        "tpot:mean": 0.025,
        "itl:p99": 0.04,
        "e2e:mean": 5.0,
        "error_rate": 0.05,
    }
    assert (found.engine, found.model, found.date) == (
        "unknown",
        "org/model",
        "2026-03-05T10:11:12",
    )
    assert found.load == {"concurrency": 32, "requests": 100}
    assert found.config == {"gpu": "L4"}
    assert found.fingerprint == {"isl": 100.0, "osl": 200.0}


def test_a_vllm_sweep_gives_repeats_of_one_configuration(tmp_path: Path) -> None:
    runs = [samples.vllm_sweep_run(n) for n in range(3)]
    found = read_text(tmp_path, json.dumps(runs), "summary.json")
    assert [p.repeat for p in found] == [0, 1, 2] and len({p.id for p in found}) == 3
    assert len({p.key for p in found}) == 1
    assert found[0].engine == "vllm"
    assert found[0].config == {"gpu": "L4", "max_num_seqs": 64, "enforce_eager": True}
    assert [p.id for p in read_text(tmp_path, json.dumps(runs[1]), "run=1.json")] == [found[1].id]


def test_a_vllm_rate_and_failures_of_an_older_version(tmp_path: Path) -> None:
    document = samples.vllm_result() | {"request_rate": 2.5, "backend": "vllm"}
    del document["failed"]
    found = read_one(tmp_path, document)
    assert found.load == {"concurrency": 32, "requests": 100, "rate": 2.5, "burstiness": 1.0}
    assert found.values["error_rate"] == 0.05 and found.engine == "vllm"


def test_sglang_lines_with_their_infinity(tmp_path: Path) -> None:
    text = samples.lines(samples.sglang_line(), samples.sglang_line() | {"max_concurrency": 8})
    assert "Infinity" in text
    found, other = read_text(tmp_path, text, "bench.jsonl")
    assert found.values == {
        "request_throughput": 100.0,
        "input_throughput": 51200.0,
        "output_throughput": 6400.0,
        "total_throughput": 57600.0,
        "e2e:mean": 0.64,
        "e2e:p99": 1.28,
        "ttft:p50": 0.032,
        "itl:p95": 0.016,
        "itl:max": 0.064,
    }
    assert (found.engine, found.engine_version, found.model) == ("sglang", "0.5.5", "org/model")
    assert found.config == {"tp_size": 4} and found.load == {"concurrency": 64}
    assert found.workload == {"name": "random", "isl": 512, "osl": 64, "range_ratio": 0.5}
    assert other.load == {"concurrency": 8} and other.id != found.id


def test_a_guidellm_report(tmp_path: Path) -> None:
    found = read_one(tmp_path, samples.guidellm_report())
    assert {
        n: v for n, v in found.values.items() if n.endswith((":mean", ":p95", "put", "rate"))
    } == {
        "e2e:mean": 2.5,
        "e2e:p95": 4.0,
        "ttft:mean": 0.125,
        "ttft:p95": 0.25,
        "tpot:mean": 0.025,
        "tpot:p95": 0.05,
        "request_throughput": 3.0,
        "output_throughput": 384.0,
        "error_rate": 0.25,
    }
    assert found.values["ttft:p99.9"] == 0.5 and found.values["e2e:p0.1"] == 1.0
    assert found.values["ttft:max"] == 0.75
    assert found.load == {"arrivals": "constant", "rate": 3.5}
    assert (found.model, found.date) == ("org/model", "2026-03-05T10:00:00Z")
    assert found.fingerprint == {"isl": 256.0, "osl": 128.0}


def test_the_earlier_guidellm_report(tmp_path: Path) -> None:
    document = samples.guidellm_report()
    (one,) = document["benchmarks"]
    del one["config"], document["args"]
    one["args"] = {"strategy": {"type_": "concurrent", "streams": 16}}
    one["worker"] = {"backend_model": "org/old"}
    one["request_totals"] = one["metrics"].pop("request_totals")
    found = read_one(tmp_path, document)
    assert found.load == {"arrivals": "concurrent", "concurrency": 16}
    assert found.model == "org/old" and found.values["error_rate"] == 0.25


def test_an_aiperf_export(tmp_path: Path) -> None:
    found = read_one(tmp_path, samples.aiperf_export())
    assert found.values == {
        "request_throughput": 9.5,
        "output_throughput": 2432.0,
        "goodput": 9.0,
        "e2e:mean": 2.4,
        "e2e:p50": 2.3,
        "e2e:p99": 4.8,
        "ttft:mean": 0.2,
        "ttft:p90": 0.3,
        "tpot:mean": 0.0085,
        "error_rate": 0.05,
    }
    assert (found.model, found.hardware, found.date) == (
        "org/model",
        "L40S x2",
        "2026-03-05T10:00:00",
    )
    assert str(found.load) == "{'concurrency': 24, 'requests': 100}"
    assert found.fingerprint == {"isl": 550.0, "osl": 256.0}


def test_a_cancelled_aiperf_run_and_newer_settings(tmp_path: Path) -> None:
    settings = {"models": {"items": [{"name": "org/new"}]}}
    document = samples.aiperf_export() | {"was_cancelled": True, "input_config": settings}
    found = read_one(tmp_path, document)
    assert (found.status, found.model) == ("failed", "org/new") and "cancelled" in found.reason
    assert found.values["ttft:mean"] == 0.2


def test_an_inference_perf_report(tmp_path: Path) -> None:
    found = read_one(tmp_path, samples.perf_report())
    assert found.values == {
        "ttft:mean": 0.25,
        "ttft:p95": 0.5,
        "tpot:mean": 0.0125,
        "itl:p0.1": 0.001,
        "itl:p99": 0.03125,
        "e2e:mean": 1.5,
        "e2e:p99.9": 6.0,
        "e2e:p50": 1.25,
        "input_throughput": 800.0,
        "output_throughput": 640.0,
        "total_throughput": 1440.0,
        "request_throughput": 6.0,
        "goodput": 5.5,
        "error_rate": 0.25,
    }
    assert found.load == {"rate": 8.0, "requests": 80}
    assert found.client == {"dated_by": "the file's last change"} and found.date.endswith("Z")


@pytest.mark.parametrize("tool", samples.ALL)
def test_each_document_is_of_one_format_and_its_keys_are_ours(tmp_path: Path, tool: str) -> None:
    document = samples.ALL[tool]
    assert [f.name for f in FORMATS if f.sniff(document)] == [tool]
    for point in read_text(tmp_path, json.dumps(document)):
        assert point.values and point.date and tool in point.origin
        for key in point.values:
            name, _, stat = key.partition(":")
            assert canonical_stat(METRICS[name], stat) == stat, key


@pytest.mark.parametrize("tool", samples.ALL)
def test_unknown_fields_are_passed_over(tmp_path: Path, tool: str) -> None:
    document = samples.ALL[tool]
    more = {"zz_new": 5, "zz_list": [1], "zz_object": {"a": None}} | document
    before, after = (read_text(tmp_path, json.dumps(d)) for d in (document, more))
    assert [p.values for p in before] == [p.values for p in after]
    assert [p.key for p in before] == [p.key for p in after]


def test_a_run_without_any_success_is_a_failed_point(tmp_path: Path) -> None:
    nothing = {"completed": 0, "failed": 100, "mean_ttft_ms": 0.0}
    found = read_one(tmp_path, samples.vllm_result() | nothing)
    assert (found.status, found.values) == ("failed", {"error_rate": 1.0})
    report = samples.perf_report()
    report["successes"] = {"count": 0, "latency": None, "throughput": None}
    assert read_one(tmp_path, report).status == "failed"
    run = samples.optimizer_run(8, 1.0)
    del run["results"]
    assert read_one(tmp_path, run).reason == "the file gives no result for this run"
    assert read_one(tmp_path, run | {"error": "out of memory"}).reason == "out of memory"


def test_the_lines_of_a_running_sweep(tmp_path: Path) -> None:
    """Its whole lines are points; the finished sweep's JSON then adds nothing to them."""
    runs = samples.optimizer_sweep()["test_results"]
    whole = samples.lines(*runs)
    for cut in range(len(whole) + 1):
        found = read_text(tmp_path, whole[:cut], "sweep.jsonl")
        done = whole[:cut].count("\n")
        assert len(found) in (done, done + 1)
        assert all(p.status == "ok" for p in found)
    finished = read_text(tmp_path, json.dumps(samples.optimizer_sweep()))
    assert [p.id for p in finished] == [p.id for p in found]


def test_a_list_of_files_through_the_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for number, document in enumerate(samples.ALL.values()):
        files.append(str(tmp_path / f"{number}.json.gz"))
        Path(files[-1]).write_bytes(gzip.compress(json.dumps(document).encode()))
    store = tmp_path / "new" / "results.db"
    command = ["import", *files, "--store", str(store), "--engine", "vllm", "--hardware", "L4"]
    assert main(command) == 0
    assert "7 new points" in capsys.readouterr().out
    assert main(command) == 0
    assert " 0 new points" in capsys.readouterr().out
    with Store(store) as opened:
        found = [p for _, p in opened.points()]
    assert [p.engine for p in found[:2]] == ["sglang"] * 2 and found[2].engine == "vllm"
    assert found[0].hardware == "H100 x2" and found[2].hardware == "L4"
    exported = tmp_path / "points.jsonl"
    assert main(["export", str(store), "-o", str(exported)]) == 0
    assert list(read_lines(exported)) == found == read_results(exported)


def test_the_explorer_takes_results_as_they_are(tmp_path: Path) -> None:
    sweep, page = tmp_path / "sweep.jsonl", tmp_path / "page.html"
    sweep.write_text(samples.lines(samples.optimizer_run(8, 150.0)) + '{"config"', encoding="utf-8")
    assert main(["explore", str(sweep), "--no-published", "-o", str(page)]) == 0
    assert "llm-optimizer, sweep.jsonl" in page.read_text(encoding="utf-8")


def test_one_bad_file_imports_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, store = (tmp_path / name for name in ("good.json", "bad.jsonl", "r.db"))
    good.write_text(json.dumps(samples.vllm_result()), encoding="utf-8")
    bad.write_text(samples.lines(samples.sglang_line(), {"hello": 1}), encoding="utf-8")
    assert main(["import", str(good), str(bad), "--store", str(store)]) == 1
    said = capsys.readouterr().err
    assert "bad.jsonl:2" in said and "GuideLLM" in said and "llm-optimizer" in said
    assert not store.exists()
    assert main(["export", str(store), "-o", str(tmp_path / "x")]) == 1


def test_our_own_lines(tmp_path: Path) -> None:
    point = Point(id="a", date="2026-01-01T00:00:00Z", engine="e", model="m", values={"cost": 1.0})
    write_lines(tmp_path / "own.jsonl", [point])
    assert read_results(tmp_path / "own.jsonl") == [point]


@pytest.mark.parametrize(
    "text",
    ["{", "[1]", "7", '"text"', "[" * 100_000, '{"a": 1}', '{"benchmarks": []}', "x\ny\n", "\x00"],
)
def test_what_is_no_result_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"results\.json") as error:
        read_text(tmp_path, text)
    assert "AIPerf" in error.value.hint


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = tmp_path / "a.json.gz"
    packed.write_bytes(gzip.compress(json.dumps(samples.vllm_result()).encode())[:-20])
    with pytest.raises(ConfigError, match="unpack"):
        read_results(packed)
    with pytest.raises(ConfigError, match="can't read none"):
        read_results(tmp_path / "none")
    monkeypatch.setattr(read, "MAX_BYTES", 100)
    with pytest.raises(ConfigError, match="more than"):
        read_text(tmp_path, json.dumps(samples.vllm_result()))


@pytest.mark.parametrize("depth", [50, 900, 5_000])
def test_deep_nesting(tmp_path: Path, depth: int) -> None:
    text = json.dumps(samples.optimizer_run(8, 150.0))
    text = text.replace("4096", "[" * depth + "]" * depth)
    try:
        (found,) = read_text(tmp_path, text)
    except ConfigError as error:
        assert "deep" in error.message and depth > 50
    else:
        write_lines(tmp_path / "out.jsonl", [found])


STRANGE: tuple[Any, ...] = (
    None,
    -1,
    0,
    10**400,
    1e308,
    float("nan"),
    "",
    "\ud800",
    "x",
    [],
    [{}],
    {},
    {"a": {}},
    True,
)


def damaged(value: Any, chance: random.Random) -> Any:
    """The document with strange values in some places."""
    if chance.random() < 0.06:
        return copy.deepcopy(chance.choice(STRANGE))
    if isinstance(value, dict):
        return {k: damaged(v, chance) for k, v in value.items() if chance.random() > 0.03}
    return [damaged(v, chance) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("tool", samples.ALL)
def test_damage_gives_points_or_a_config_error(tmp_path: Path, tool: str) -> None:
    for seed in range(300):
        text = json.dumps(damaged(samples.ALL[tool], random.Random(seed)))
        try:
            found = read_text(tmp_path, text)
        except ConfigError as error:
            assert error.hint
            continue
        write_lines(tmp_path / "out.jsonl", found)
        assert list(read_lines(tmp_path / "out.jsonl")) == found


@pytest.mark.parametrize("tool", samples.ALL)
def test_random_bytes_in_a_file_too(tmp_path: Path, tool: str) -> None:
    path = tmp_path / "results.json"
    for seed in range(100):
        chance = random.Random(seed)
        content = bytearray(json.dumps(samples.ALL[tool]).encode())
        for _ in range(3):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            read_results(path)
        except ConfigError:
            continue
