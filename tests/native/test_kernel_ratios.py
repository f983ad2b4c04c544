"""Kernels against limits of this machine, probed beside them: a wide margin, and never a time.

What they should reach is in docs/results/performance.md; a kernel that falls under half of it was
broken, whatever else runs here.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from kernel_cases import Attend, Gemm
from kernels import Weights, attention_work, gemm_work, rate, seconds
from sixfold.engine.kernels import cpu
from sixfold.engine.kernels.ops import LimitProbe

TIER = cpu.choose_tier("auto")
LEAST = {
    "w4": 0.35, "w4_asym": 0.35, "w8": 0.35, "w8_128": 0.4, "bf16": 0.45, "prefill": 0.3,
}  # fmt: skip

pytestmark = pytest.mark.skipif(not TIER.startswith("avx512_bf16"), reason="figures of that tier")


def best_share(work, probe: LimitProbe) -> float:
    """The best of many goes over the best of the probes between: others may use the machine."""
    goes, looks = [], []
    for _ in range(30):
        looks.append(rate(probe, work))
        goes.append(work.operations / seconds(work.run))
    return max(goes) / max(looks)


@pytest.fixture(scope="module")
def probe() -> LimitProbe:
    return LimitProbe(TIER, 1)


@pytest.mark.parametrize("form", ["w4", "w4_asym", "w8", "w8_128", "bf16"])
def test_linear_layers(form: str, probe: LimitProbe) -> None:
    case = Gemm("llama3.2-1b", "qkv", form, 3072, 2048, 96)
    assert best_share(gemm_work(case, Weights(), TIER, 1), probe) >= LEAST[form]


def test_prefill_attention(probe: LimitProbe) -> None:
    work = attention_work(Attend(128, 4, 2, 1, 512, 1024), TIER, 1)
    assert best_share(work, probe) >= LEAST["prefill"]
