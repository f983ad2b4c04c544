from sixfold.core.metric_names import METRICS, NAMES, UNITS
from sixfold.core.slo import parse_slo
from sixfold.core.slo_presets import PRESETS


def test_every_preset_reads_and_has_a_source() -> None:
    for name, preset in PRESETS.items():
        assert name == preset.name and preset.source
        assert parse_slo(f"preset:{name}") == parse_slo(preset.text)
    assert len(PRESETS) == 13


def test_a_preset_is_a_clause() -> None:
    assert parse_slo("preset:chat@llm-d-planner") == parse_slo(
        "ttft:p95<=150ms;itl:p95<=25ms;e2e:p95<=7s"
    )
    joined = parse_slo("preset:agent@guidellm and error_rate<1% or chat/preset:chat@guidellm")
    assert str(joined) == (
        "e2e:p99<=5s and error_rate<1% or chat/ttft:p99<=200ms and chat/itl:p99<=50ms"
    )


def test_the_metric_table_is_whole() -> None:
    assert len(NAMES) == len(METRICS) + sum(len(m.aliases) for m in METRICS.values())
    for name, metric in METRICS.items():
        assert metric.name == name and metric.meaning and "" in UNITS[metric.kind]
        assert metric.has_stats == (metric.kind == "time")
        assert metric.unit in UNITS[metric.kind]
