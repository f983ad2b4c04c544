"""Published GPU measurements as points: what others measured, with its origin and licence.

The file and its terms are in data/ (NOTICE). Not here: drawing (page.py), other tools' results.
"""

import csv
import gzip
import io
import math
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from sixfold.core.point import Point

STUDY = "published GPU measurements"
ORIGIN = (
    "aiconfigurator-core 0.12.0 silicon samples, Apache-2.0; {who}. The source does not say whether"
    " TTFT and TPOT are means or medians: they are shown as means. E2E, throughput and speed per"
    " user are derived from them. Other settings than those listed are not known."
)
DERIVED = (
    "e2e:mean",
    "output_throughput",
    "output_throughput_per_gpu",
    "tokens_per_second_per_user",
)
"""Values that were not measured but follow from TTFT, TPOT, lengths and concurrency."""
UNDATED = "2026-04-27"
"""Rows without a date: the day of the last dump."""
CONFIG = {
    "mode": "mode",
    "precision": "precision",
    "gemm_quant_mode": "gemm_quant",
    "moe_quant_mode": "moe_quant",
    "tp_size": "tp",
    "pp_size": "pp",
    "attention_dp_size": "dp",
    "moe_tp_size": "moe_tp",
    "moe_ep_size": "moe_ep",
    "batch_size": "batch_size",
}
PARTS = ("batch_size", "num_workers", "tp_size", "pp_size", "attention_dp_size", "moe_ep_size")
GPUS = {"h100_sxm": "H100", "h200_sxm": "H200", "b200_sxm": "B200", "gb200": "GB200"}
ENGINES = {"trtllm": "tensorrt-llm"}

Row = Mapping[str, str]


def published_points() -> Iterator[Point]:
    """All published points, in the order of the file."""
    data = files(__package__).joinpath("data/silicon_samples.csv.gz").read_bytes()
    for row in csv.DictReader(io.StringIO(gzip.decompress(data).decode())):
        yield _point(row)


def _point(row: Row) -> Point:
    return Point(
        id=f"published-{row['row_id']}",
        study=STUDY,
        source="published",
        origin=ORIGIN.format(who=row["origin"]),
        date=f"{row['measured'] or UNDATED}T00:00:00Z",
        engine=ENGINES.get(row["engine"], row["engine"]),
        engine_version=row["engine_version"],
        model=row["model"],
        hardware=_hardware(row),
        strategies=_strategies(row),
        config=_config(row),
        command=_command(row),
        workload={"isl": int(row["isl"]), "osl": int(row["osl"])},
        load={"concurrency": int(row["concurrency"])} if row["concurrency"] else {},
        values=_values(row),
        client={"derived": [*DERIVED, "command"]},
    )


def _hardware(row: Row) -> str:
    name = GPUS.get(row["gpu"], row["gpu"])
    return f"{name} x{row['num_gpus']}" if row["num_gpus"] else name


def _config(row: Row) -> dict[str, Any]:
    names = dict(CONFIG)
    for half in ("prefill", "decode"):
        names |= {f"{half}_{part}": f"{half}_{part.removesuffix('_size')}" for part in PARTS}
    config: dict[str, Any] = {new: _plain(row[old]) for old, new in names.items() if row[old]}
    return config | ({"image": row["image"]} if row["image"] else {})


def _plain(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _above_one(row: Row, *columns: str) -> bool:
    return any(row[column].isdecimal() and int(row[column]) > 1 for column in columns)


def _strategies(row: Row) -> tuple[str, ...]:
    """What the columns tell; a strategy that is absent here may still have been on."""
    found = {
        "tensor parallelism": _above_one(row, "tp_size", "prefill_tp_size", "decode_tp_size"),
        "data parallelism": _above_one(
            row, "attention_dp_size", "prefill_attention_dp_size", "decode_attention_dp_size"
        ),
        "expert parallelism": _above_one(
            row, "moe_ep_size", "prefill_moe_ep_size", "decode_moe_ep_size"
        ),
        "prefill-decode disaggregation": row["mode"] == "disagg",
    }
    return tuple(name for name, on in found.items() if on)


def _command(row: Row) -> str:
    """A start from the columns, for the engines and modes where they suffice for one."""
    if row["mode"] != "agg" or _above_one(row, "attention_dp_size"):
        return ""
    ep = int(row["moe_ep_size"] or 1)
    if row["engine"] == "vllm":
        expert = " --enable-expert-parallel" if ep > 1 else ""
        return f"vllm serve {row['model']} --tensor-parallel-size {row['tp_size']}{expert}"
    if row["engine"] == "sglang":
        expert = f" --ep-size {ep}" if ep > 1 else ""
        start = f"python3 -m sglang.launch_server --model-path {row['model']}"
        return f"{start} --tp-size {row['tp_size']}{expert}"
    expert = f" --ep_size {ep}" if ep > 1 else ""
    return f"trtllm-serve {row['model']} --tp_size {row['tp_size']}{expert}"


def _values(row: Row) -> dict[str, float]:
    values = {
        "ttft:mean": _seconds(row["ttft_ms"]),
        "tpot:mean": _seconds(row["tpot_ms"]),
        "e2e:mean": _seconds(row["e2e_ms_derived"]),
        "output_throughput": _number(row["out_tok_s_derived"]),
    }
    throughput, gpus = values["output_throughput"], _number(row["num_gpus"])
    if throughput is not None and gpus:
        values["output_throughput_per_gpu"] = throughput / gpus
    if values["tpot:mean"]:
        values["tokens_per_second_per_user"] = 1 / values["tpot:mean"]
    return {name: float(f"{v:.6g}") for name, v in values.items() if v is not None}


def _seconds(milliseconds: str) -> float | None:
    number = _number(milliseconds)
    return None if number is None else number / 1000


def _number(text: str) -> float | None:
    number = float(text) if text else math.nan
    return number if math.isfinite(number) else None
