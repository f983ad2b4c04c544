"""The page's text: nothing of a point gets out of its JSON; the published points are whole."""

import base64
import hashlib
import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest

from sixfold.cli.main import main
from sixfold.core.errors import ConfigError
from sixfold.core.metric_names import METRICS
from sixfold.core.point import Point
from sixfold.core.slo_presets import PRESETS
from sixfold.instrument.explorer.page import metrics, presets, write_page
from sixfold.instrument.explorer.published import DERIVED, published_points
from sixfold.instrument.store.lines import write_lines
from sixfold.instrument.store.store import Store

HOSTILE = "</script><img src=x onerror=alert(1)><!--<script>\u2028{{data}}"


def point(number: int, **changes) -> Point:
    fields = {
        "id": f"p{number}",
        "date": "2026-01-01T00:00:00Z",
        "engine": "sixfold",
        "model": "m",
        "values": {"ttft:p95": 0.1 * (number + 1)},
    }
    return Point(**(fields | changes))


def data_of(page: str) -> list[dict]:
    found = re.search(r'<script type="application/json" id="points">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])


def test_hostile_text_stays_inside_the_json(tmp_path: Path):
    path = tmp_path / "page.html"
    hostile = point(0, reason=HOSTILE, engine=HOSTILE, config={HOSTILE: HOSTILE}, command=HOSTILE)
    assert write_page([hostile], path, HOSTILE) == 1
    page = path.read_text(encoding="utf-8")
    assert "<img" not in page
    assert page.count("<script") == 3 and page.count("</script>") == 3
    assert data_of(page)[0]["engine"] == HOSTILE
    assert data_of(page)[0]["config"] == {HOSTILE: HOSTILE}


def test_the_policy_admits_the_pages_own_script_and_style_only(tmp_path: Path):
    path = tmp_path / "page.html"
    write_page([point(0)], path, "t")
    page = path.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy and policy[1].startswith("default-src 'none';") and "unsafe" not in policy[1]
    for pattern in (r"<script>(.*?)</script>", r"<style>(.*?)</style>"):
        found = re.search(pattern, page, re.S)
        assert found
        digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy[1]


def test_the_page_fetches_nothing_and_injects_nothing(tmp_path: Path):
    path = tmp_path / "page.html"
    write_page([], path, "t")
    page = path.read_text(encoding="utf-8")
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert forbidden not in page
    assert "fetch(" not in page and "connect-src" not in page
    addresses = set(re.findall(r"https?://[^\"'\s]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name space, never fetched


def test_the_page_has_every_metrics_direction():
    known = {metric["name"]: metric for metric in metrics()}
    for metric in METRICS.values():
        assert known[metric.name]["better"] == ("min" if metric.lower_is_better else "max")
        assert known[metric.name]["unit"] == metric.unit
    assert known["telemetry.engine_queue_p95_seconds"] == {
        "name": "telemetry.engine_queue_p95_seconds",
        "unit": "s",
        "better": "min",
    }


def test_equal_points_give_an_equal_page(tmp_path: Path):
    for name in ("a", "b"):
        write_page((point(i) for i in range(5)), tmp_path / name, "t")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_embedded_points_can_be_read_again_as_points(tmp_path: Path):
    import msgspec

    path = tmp_path / "page.html"
    points = [point(0), point(1, status="failed", reason="r", strategies=("tensor parallelism",))]
    write_page(points, path, "t")
    page = path.read_text(encoding="utf-8")
    assert msgspec.convert(data_of(page), list[Point]) == points


def test_published_points_are_whole_and_say_whose_they_are():
    points = list(published_points())
    assert len(points) == 2761 == len({p.id for p in points})
    assert {p.source for p in points} == {"published"}
    assert all(
        "aiconfigurator-core 0.12.0" in p.origin and "Apache-2.0" in p.origin for p in points
    )
    assert all(math.isfinite(v) and v > 0 for p in points for v in p.values.values())
    assert all({"ttft:mean", "tpot:mean"} <= set(p.values) for p in points)
    assert Counter(p.config["mode"] for p in points) == {"agg": 2139, "disagg": 622}
    assert all(set(DERIVED) <= set(p.client["derived"]) for p in points)


def test_published_times_are_seconds():
    name = "2026_03_25_deepseek_r1_b200_sxm_sglang_fp4_agg_1024x8192_c128_tp8_0_ep8_0_259"
    found = next(p for p in published_points() if p.id == f"published-{name}")
    assert found.hardware == "B200 x8" and found.load == {"concurrency": 128}
    assert found.workload == {"isl": 1024, "osl": 8192}
    assert found.values["ttft:mean"] == pytest.approx(0.63942)
    assert found.values["output_throughput_per_gpu"] == pytest.approx(5823.9 / 8, rel=1e-4)


def test_the_verb_reads_stores_and_lines_once_each(tmp_path: Path, capsys):
    lines, store, page = tmp_path / "a.jsonl", tmp_path / "b.db", tmp_path / "p.html"
    write_lines(lines, [point(0), point(1)])
    with Store(store) as opened:
        opened.append([point(1), point(2)])
    assert main(["explore", str(lines), str(store), "--no-published", "-o", str(page)]) == 0
    assert "3 points" in capsys.readouterr().out
    assert [p["id"] for p in data_of(page.read_text(encoding="utf-8"))] == ["p0", "p1", "p2"]


def test_a_bad_file_leaves_no_page(tmp_path: Path, capsys):
    bad, page = tmp_path / "bad.jsonl", tmp_path / "p.html"
    bad.write_text('{"id": 1}\n', encoding="utf-8")
    assert main(["explore", str(bad), "-o", str(page)]) == 1
    assert "bad.jsonl:1" in capsys.readouterr().err
    assert not page.exists()
    assert main(["explore", str(tmp_path / "none"), "-o", str(page)]) == 1


def test_an_unwritable_place_is_an_error_with_a_hint(tmp_path: Path):
    with pytest.raises(ConfigError, match="can't write"):
        write_page([], tmp_path / "no" / "such" / "page.html", "t")


def test_presets_are_the_published_objectives_in_base_units():
    found = {preset["name"]: preset for preset in presets()}
    assert set(found) == set(PRESETS)
    chat = found["chat@llm-d-planner"]
    assert "llm-d" in chat["source"]
    assert chat["budgets"] == [
        {"metric": "ttft:p95", "op": "≤", "value": 0.15},
        {"metric": "itl:p95", "op": "≤", "value": 0.025},
        {"metric": "e2e:p95", "op": "≤", "value": 7.0},
    ]
