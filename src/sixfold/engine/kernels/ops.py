"""The only door to the native module: programs go in, hidden states, logits and tokens come out.

Owns the memory that native code works on and keeps it alive. Decides nothing about requests.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sixfold.core.config import GROUP_SIZE, RopeConfig
from sixfold.engine.kernels import _native  # type: ignore[attr-defined]
from sixfold.engine.kernels.lower import FIELDS, ROPE_KV, Lowered, lower
from sixfold.engine.kernels.memory import PagesAhead, huge_buffer
from sixfold.engine.kernels.packing import (
    FORMATS,
    KV_DTYPES,
    PANEL,
    KVDtype,
    PackedWeight,
    pack_columns,
    page_bytes,
    panel_bytes,
    round_up,
)
from sixfold.engine.kernels.program import Attention, Logits, Program
from sixfold.engine.kernels.reference_attention import KeyFrames
from sixfold.engine.kernels.rope import cos_sin
from sixfold.engine.kernels.sampling import SAMPLE_PARAMS, SAMPLE_RESULT

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]

assert SAMPLE_PARAMS.itemsize == _native.SAMPLE_PARAMS_BYTES
assert SAMPLE_RESULT.itemsize == _native.SAMPLE_RESULT_BYTES


PARTS = ("gemm", "attention", "head", "sampling", "other", "wait")
"""pool.h's Part, in order: linear layers, attention, the output projection, the sampler, norms and
the like, waiting for the other threads."""


class Step(Protocol):
    """The arrays of one step: see runner/step_input.py."""

    token_ids: Int32
    positions: Int32
    query_start_loc: Int32
    slots: Int32
    block_tables: list[Int32]


class Weight(Protocol):
    """A vector (norm weight, bias); matrices are PackedWeight."""

    def dense(self) -> Float32:
        """The values."""
        ...


@dataclass(frozen=True, slots=True)
class NativeOptions:
    """`max_positions` sizes the rotary tables; `keep_all` keeps every value for tests.

    `cache_of`: a model of the same program, whose KV cache is this one's, too. `naive_attention`
    writes all scores to memory, as a baseline; not for 8-bit caches. `key_frames`: of a cache of
    8 bits; with `cache_of` that one's hold.
    """

    isa: str
    threads: int
    max_tokens: int
    max_positions: int
    keep_all: bool = False
    cache_of: "NativeModel | None" = None
    naive_attention: bool = False
    key_frames: KeyFrames = field(default_factory=dict)


def tiers() -> tuple[str, ...]:
    """ISA tiers that this CPU and build can run, best last."""
    return tuple(_native.tiers())


def probe_limits(isa: str, threads: int, seconds: float) -> dict[str, float]:
    """Best read bandwidth and arithmetic rates within about `seconds`."""
    return dict(_native.probe_limits(isa, threads, seconds))


class LimitProbe:
    """This machine's limits, each measured in milliseconds beside what is held against it."""

    def __init__(self, isa: str, threads: int) -> None:
        self._native = _native.LimitProbe(isa, threads)

    def read(self) -> float:
        """Bytes per second out of memory, all threads together."""
        return float(self._native.read()) * 1e9

    def arithmetic(self, kind: Literal["f32", "bf16", "int8"]) -> float:
        """Operations per second of the tier's dot product; 0 where it has none."""
        return float(self._native.arithmetic(("f32", "bf16", "int8").index(kind))) * 1e9


class NativeModel:
    """A program on the native executor: the interface of `reference.ReferenceModel`.

    `weights` holds PackedWeights for matrices and anything with `dense()` for vectors.
    `num_kv_blocks` has one count per KV group, the null block 0 included.
    """

    def __init__(
        self,
        program: Program,
        weights: Mapping[str, Weight],
        num_kv_blocks: Sequence[int],
        kv_dtype: KVDtype,
        options: NativeOptions,
        edit: Callable[[Lowered], None] | None = None,
    ) -> None:
        """`edit` changes the lowered ops before they are built: to time some by themselves."""
        self._program = program
        self._lowered = lower(program, options.keep_all)
        if edit is not None:
            edit(self._lowered)
        self._model = _native.Model(options.isa, options.threads, options.max_tokens)
        self._isa = options.isa
        self._model.set_naive_attention(options.naive_attention)
        self._num_kv_blocks = list(num_kv_blocks)
        self._kv_dtype: KVDtype = kv_dtype
        self._keep: list[NDArray[np.generic]] = []
        if options.cache_of is None:
            self._arenas = [self._new_arena(g) for g in range(len(num_kv_blocks))]
            self._pages = [PagesAhead(arena, _native.populate) for arena in self._arenas]
            self._key_frames = options.key_frames
        else:
            self._arenas, self._pages = options.cache_of._arenas, options.cache_of._pages
            self._key_frames = options.cache_of._key_frames
        self._tables: list[Int32 | None] = [None] * len(num_kv_blocks)
        self._tokens = 0
        self._forgotten = [0.0] * len(PARTS)
        self._build(weights, options)

    @property
    def vocab_size(self) -> int:
        """V, or 0 for a program without logits."""
        return self._lowered.vocab_size

    @property
    def num_ops(self) -> int:
        """Lowered ops of a whole forward."""
        return len(self._lowered.ints)

    @property
    def isa(self) -> str:
        """The tier of its kernels."""
        return self._isa

    @property
    def kv_dtype(self) -> KVDtype:
        """What its KV cache holds."""
        return self._kv_dtype

    @property
    def num_kv_groups(self) -> int:
        """Of the program."""
        return len(self._arenas)

    def set_tuning(self, chunks: int, distance: int) -> None:
        """How work is cut and how far ahead it fetches: executor.h's Tuning."""
        self._model.set_tuning(chunks, distance)

    def forward(self, step: Step, begin: int = 0, end: int | None = None) -> None:
        """Run the lowered ops [begin, end) (all by default) on the step's tokens."""
        self._set_tables(step.block_tables)
        self._tokens = len(step.token_ids)
        self._model.forward(
            step.token_ids, step.positions, step.query_start_loc, step.slots,
            begin, self.num_ops if end is None else end,
        )  # fmt: skip

    def logits(self, rows: Int32) -> Float32:
        """[S, V] logits of the given rows of the last forward."""
        out = np.empty((len(rows), self.vocab_size), np.float32)
        if len(rows):
            self._model.logits(rows, out)
        return out

    def sample(self, rows: Int32, targets: Int32, params: NDArray[np.void]) -> NDArray[np.void]:
        """Sample each row (targets -1), or take the logprobs of its target token.

        params: SAMPLE_PARAMS [S]. Returns SAMPLE_RESULT [S].
        """
        results = np.zeros(len(rows), SAMPLE_RESULT)
        if len(rows):
            self._model.sample(
                rows, targets, params.view(np.uint8).reshape(len(rows), -1),
                results.view(np.uint8).reshape(len(rows), -1), self.vocab_size,
            )  # fmt: skip
        return results

    def value(self, value_id: int) -> Float32:
        """[T, width]: what the head reads of the last forward (with keep_all, any value)."""
        op, head = self._program.ops[-1], self._lowered.head
        if isinstance(op, Logits) and head is not None and op.x.id == value_id:
            buffer = head[0]
        else:
            buffer = self._lowered.value_buffers[value_id]
        return np.array(self._model.buffer(buffer, self._tokens))

    def uses(self, highest: Sequence[int]) -> None:
        """Blocks up to these, of each KV group, are in use from now on."""
        for group, (pages, block) in enumerate(zip(self._pages, highest, strict=True)):
            size = len(self._arenas[group]) // self._num_kv_blocks[group]
            pages.used((block + 1) * size)

    def observe_inputs(self) -> None:
        """From now on, add up the sizes of linear layers' inputs. For a model of one thread."""
        self._model.observe_inputs()

    def input_sizes(self) -> dict[str, Float32]:
        """Per linear weight, the sum of |x| over all rows so far, float32 [K]."""
        return {
            name: np.array(self._model.input_sizes(index), np.float32)
            for index, (name, _bias) in enumerate(self._lowered.weights)
        }

    def queries_and_keys(self, step: Step) -> Iterator[tuple[Attention, Float32, Float32]]:
        """Run all ops; of each attention the queries [T, H, D] and keys [T, KH, D].

        As caches of bf16 and float32 take them: not of a model whose cache is int8.
        """
        begin, tokens = 0, len(step.token_ids)
        for index, op in self._rotations():
            self.forward(step, begin, index + 1)
            begin = index + 1
            rows = self._model.buffer(self._lowered.ints[index][FIELDS.index("in_")], tokens)
            heads = op.num_heads + op.num_kv_heads
            some = np.array(rows[:, : heads * op.head_dim]).reshape(tokens, heads, op.head_dim)
            yield op, some[:, : op.num_heads], some[:, op.num_heads :]
        self.forward(step, begin)

    def _rotations(self) -> Iterator[tuple[int, Attention]]:
        """Of each attention the lowered op that writes its cache."""
        kind = FIELDS.index("kind")
        lowered = (i for i, ints in enumerate(self._lowered.ints) if ints[kind] == ROPE_KV)
        return zip(
            lowered, (op for op in self._program.ops if isinstance(op, Attention)), strict=True
        )

    def stacked(self) -> int:
        """Of the last forward: requests times KV heads that shared attention units took along."""
        return int(self._model.stacked())

    def seconds(self) -> dict[str, float]:
        """Time in native code so far, by what it was spent on: PARTS."""
        now = zip(PARTS, self._model.seconds(), self._forgotten, strict=True)
        return {part: seconds - forgotten for part, seconds, forgotten in now}

    def forget_seconds(self) -> None:
        """Count them from now on."""
        self._forgotten = self._model.seconds()

    def arena(self, group: int) -> NDArray[np.uint8]:
        """The KV arena of a group, uint8 [blocks, block bytes] (offload, hand-off, tests)."""
        return self._arenas[group].reshape(self._num_kv_blocks[group], -1)

    def _build(self, weights: Mapping[str, Weight], options: NativeOptions) -> None:
        low = self._lowered
        self._model.set_ops(*low.arrays())
        for name, bias in low.weights:
            self._add_weight(weights, name, bias)
        for vector in low.vectors:
            if isinstance(vector, str):
                values = weights[vector].dense().reshape(-1)
            else:
                values = _rope_table(vector, options.max_positions)
            self._model.add_vector(self._address(np.ascontiguousarray(values, np.float32)))
        if self._kv_dtype == "int8" and self._key_frames:
            self._set_key_frames()
        for width in low.buffers:
            self._model.add_buffer(width)
        if low.head is not None:
            self._model.set_head(*low.head)
        self._model.prepare()

    def _add_weight(self, weights: Mapping[str, Weight], name: str, bias: str | None) -> None:
        w = weights[name]
        assert isinstance(w, PackedWeight), f"{name} is not packed"
        size = panel_bytes(w.format, w.k, w.asym, w.group)
        assert w.data.shape == (round_up(w.n, PANEL) // PANEL, size), f"{name} has a wrong size"
        bias_address = 0
        if bias is not None:
            padded = np.zeros(round_up(w.n, PANEL), np.float32)
            padded[: w.n] = weights[bias].dense().reshape(-1)
            bias_address = self._address(padded)
        columns, beside = 0, 0
        if len(w.outliers):
            columns = self._address(np.ascontiguousarray(w.outliers, np.int32))
            beside = self._address(pack_columns(w.columns(w.outliers)))
        self._model.add_weight(
            FORMATS.index(w.format), w.asym, w.group // GROUP_SIZE, w.n, w.k,
            self._address(w.data), size, bias_address, len(w.outliers), columns, beside,
        )  # fmt: skip

    def _set_key_frames(self) -> None:
        for index, op in self._rotations():
            frames = np.ascontiguousarray(self._key_frames[op.layer], np.float32)
            assert frames.shape == (3, op.num_kv_heads, op.head_dim)
            self._model.set_key_frames(index, self._address(frames))

    def _address(self, array: NDArray[np.generic]) -> int:
        assert array.flags.c_contiguous
        self._keep.append(array)
        return array.ctypes.data

    def _new_arena(self, group: int) -> NDArray[np.uint8]:
        return huge_buffer(
            self._num_kv_blocks[group] * block_bytes(self._program, group, self._kv_dtype)
        )

    def _set_tables(self, tables: list[Int32]) -> None:
        for group, table in enumerate(tables):
            if self._tables[group] is table:
                continue
            assert table.flags.c_contiguous and table.dtype == np.int32
            self._tables[group] = table
            op = _attention_of(self._program, group)
            page = page_bytes(op.head_dim, self._kv_dtype)
            layer = page * op.num_kv_heads
            self._model.set_kv(
                group, self._arenas[group].ctypes.data,
                layer * self._program.kv_groups[group].num_layers, layer, page,
                self._num_kv_blocks[group], KV_DTYPES.index(self._kv_dtype),
                table.ctypes.data, table.shape[1],
            )  # fmt: skip


def block_bytes(program: Program, group: int, kv_dtype: KVDtype = "bf16") -> int:
    """Bytes of one KV block of a group, all its layers."""
    op = _attention_of(program, group)
    return page_bytes(op.head_dim, kv_dtype) * op.num_kv_heads * program.kv_groups[group].num_layers


def _attention_of(program: Program, group: int) -> Attention:
    return next(o for o in program.ops if isinstance(o, Attention) and o.kv_group == group)


def _rope_table(key: tuple[RopeConfig, int], positions: int) -> Float32:
    """[positions, D]: the cosines, then the sines of each position."""
    rope, head_dim = key
    return np.concatenate(cos_sin(rope, head_dim, np.arange(positions)), axis=1)
