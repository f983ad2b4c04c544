"""Builds native/sampler by itself, so that its tests need no extension module, only a compiler."""

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sixfold.engine.kernels.reference_sampler import SampleParams, SampleResult

NATIVE = Path(__file__).parents[3] / "native"
MAX_LOGPROBS = 64

i32p, f32p = ctypes.POINTER(ctypes.c_int32), ctypes.POINTER(ctypes.c_float)


class Params(ctypes.Structure):
    """SixfoldSampleParams."""

    _fields_ = [
        *((name, ctypes.c_uint64) for name in ("seed", "position")),
        *((name, ctypes.c_float) for name in ("temperature", "top_p", "min_p")),
        *((f"{name}_penalty", ctypes.c_float) for name in ("repetition", "frequency", "presence")),
        *((name, ctypes.c_int32) for name in ("top_k", "num_logprobs")),
        *((f"num_{name}", ctypes.c_int32) for name in ("bias", "banned", "prompt", "output")),
        ("bias_ids", i32p),
        ("bias_values", f32p),
        *((f"{name}_ids", i32p) for name in ("banned", "prompt", "output")),
    ]


class Result(ctypes.Structure):
    """SixfoldSampleResult."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("token", "status", "rank", "num_top")),
        ("logprob", ctypes.c_float),
        ("top_ids", ctypes.c_int32 * MAX_LOGPROBS),
        ("top_logprobs", ctypes.c_float * MAX_LOGPROBS),
    ]

    def read(self) -> SampleResult:
        """As the twin gives it."""
        n = self.num_top
        return SampleResult(
            self.token, self.status == 0, self.logprob, self.rank,
            tuple(self.top_ids[:n]), tuple(self.top_logprobs[:n]),
        )  # fmt: skip


class NativeSampler:
    """The C functions with the twin's signatures. Scratch is filled with junk before each call."""

    def __init__(self, library: Path) -> None:
        self._lib = ctypes.CDLL(str(library))
        self._lib.sixfold_sample_scratch_bytes.restype = ctypes.c_int64

    def sample_row(self, logits: np.ndarray, params: SampleParams) -> SampleResult:
        lists = {
            "bias_ids": [i for i, _ in params.bias],
            "banned_ids": params.banned_ids,
            "prompt_ids": params.prompt_ids,
            "output_ids": params.output_ids,
        }
        arrays = {k: np.asarray(v, dtype=np.int32) for k, v in lists.items()}
        values = np.asarray([v for _, v in params.bias], dtype=np.float32)
        record = Params(
            params.seed & (2**64 - 1), params.position, params.temperature, params.top_p,
            params.min_p, params.repetition_penalty, params.frequency_penalty,
            params.presence_penalty, params.top_k, params.num_logprobs,
            *(len(a) for a in arrays.values()),
        )  # fmt: skip
        for name, array in arrays.items():
            setattr(record, name, array.ctypes.data_as(i32p))
        record.bias_values = values.ctypes.data_as(f32p)
        logits = np.ascontiguousarray(logits, dtype=np.float32)
        size = self._lib.sixfold_sample_scratch_bytes(ctypes.c_int64(len(logits)))
        scratch = np.full(size + 128, 0xA5, dtype=np.uint8)
        start = -scratch.ctypes.data % 64
        result = Result(token=-7)
        self._lib.sixfold_sample_row(
            logits.ctypes.data_as(f32p),
            ctypes.c_int64(len(logits)),
            ctypes.byref(record),
            ctypes.c_void_p(scratch.ctypes.data + start),
            ctypes.byref(result),
        )
        assert np.all(scratch[start + size :] == 0xA5), "wrote past its scratch"
        return result.read()

    def logprobs_row(self, logits: np.ndarray, token: int, num_logprobs: int) -> SampleResult:
        logits = np.ascontiguousarray(logits, dtype=np.float32)
        result = Result()
        self._lib.sixfold_logprobs_row(
            logits.ctypes.data_as(f32p),
            ctypes.c_int64(len(logits)),
            ctypes.c_int32(token),
            ctypes.c_int32(num_logprobs),
            ctypes.byref(result),
        )
        return result.read()

    def philox(self, key: int, low: int, high: int) -> list[int]:
        out = (ctypes.c_uint32 * 4)()
        self._lib.sixfold_philox(*(ctypes.c_uint64(v) for v in (key, low, high)), out)
        return list(out)


def _compiler() -> list[str]:
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        if name and shutil.which(name):
            return [name]
    assert importlib.util.find_spec("ziglang"), "needs a C++ compiler, or: pip install ziglang"
    return [sys.executable, "-m", "ziglang", "c++"]


@pytest.fixture(scope="session")
def native_sampler(tmp_path_factory: pytest.TempPathFactory) -> NativeSampler:
    """The sampler as the build compiles it: baseline instruction set, no contraction."""
    library = tmp_path_factory.mktemp("sampler") / "sampler.so"
    flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"]
    sources = [str(NATIVE / name) for name in ("sampler.cpp", "sampler_logprobs.cpp")]
    subprocess.run(
        [*_compiler(), *flags, "-shared", "-fPIC", "-o", str(library), *sources], check=True
    )
    return NativeSampler(library)
