"""Lowering: a Program becomes the native executor's op records. Fuses, and assigns buffers.

Fusions: a norm goes into the packing of its linear layers; the residual sum into the linear
layer's (or the post-norm's) epilogue; qk-norm, rotary embedding and KV write are one pass.
With `keep_all` nothing is fused away or reused, so that every value can be looked at in tests.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sixfold.core.config import RopeConfig
from sixfold.engine.kernels.program import (
    Add,
    Attention,
    Embed,
    Glu,
    Linear,
    Logits,
    Op,
    Program,
    RmsNorm,
    Value,
)

EMBED, PACK, GEMM, ROPE_KV, ATTENTION, NORM_ADD = range(6)
STORE, ADD, GLU_SILU, GLU_GELU = range(4)
FIELDS = (
    "kind", "in_", "out", "weight", "norm", "norm2", "mode",
    "heads", "kv_heads", "head_dim", "kv_group", "cache_layer", "window", "rope",
)  # fmt: skip
"""Integer fields of an op record, in the order of executor.h's Op."""


@dataclass(slots=True)
class Lowered:
    """What the native model is built from. Indices point into the name lists."""

    ints: list[list[int]] = field(default_factory=list)
    doubles: list[list[float]] = field(default_factory=list)
    buffers: list[int] = field(default_factory=list)
    weights: list[tuple[str, str | None]] = field(default_factory=list)
    vectors: list[str | tuple[RopeConfig, int]] = field(default_factory=list)
    head: tuple[int, int, int, float] | None = None
    vocab_size: int = 0
    value_buffers: dict[int, int] = field(default_factory=dict)
    layer_starts: list[int] = field(default_factory=list)

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Op records as int64 [ops, fields] and float64 [ops, 2]."""
        shape = (len(self.ints), len(FIELDS))
        return (
            np.array(self.ints, np.int64).reshape(shape),
            np.array(self.doubles, np.float64).reshape(-1, 2),
        )


def lower(program: Program, keep_all: bool = False) -> Lowered:
    """Lower `program`."""
    return _Lowering(program, keep_all).run()


class _Lowering:
    def __init__(self, program: Program, keep_all: bool) -> None:
        self.program = program
        self.keep_all = keep_all
        self.out = Lowered()
        self.last_use, self.users = _uses(program)
        self.producers = {op.out.id: op for op in program.ops if not isinstance(op, Logits)}
        self.free: dict[int, list[int]] = {}
        self.deferred: set[int] = set()

    def run(self) -> Lowered:
        for index, op in enumerate(self.program.ops):
            if index in self.program.layer_starts:
                self.out.layer_starts.append(len(self.out.ints))
            self._lower(op)
            self._release(index)
        return self.out

    def _lower(self, op: Op) -> None:
        match op:
            case Embed():
                self._emit(EMBED, out=self._new(op.out), weight=self._weight(op.table),
                           scale=op.scale)  # fmt: skip
            case RmsNorm():
                self._norm(op)
            case Linear():
                self._linear(op)
            case Glu():
                mode = GLU_SILU if op.activation == "silu" else GLU_GELU
                self._gemm(op.x, op.weight, None, self._new(op.out), mode)
            case Add():
                self._add(op)
            case Attention():
                self._attention(op)
            case Logits():
                weight, norm = self._weight(op.weight), self._vector(op.norm)
                self.out.head = (self._at(op.x), weight, norm, op.eps)
                self.out.vocab_size = op.vocab_size

    def _norm(self, op: RmsNorm) -> None:
        users = self.users.get(op.out.id, [])
        feeds_linear = users and all(isinstance(u, Linear | Glu) for u in users)
        if not self.keep_all and (feeds_linear or self._joins_residual(op)):
            self.deferred.add(op.out.id)
            return
        self._emit(NORM_ADD, in_=self._at(op.x), out=self._new(op.out),
                   norm=self._vector(op.weight), mode=STORE, eps=op.eps)  # fmt: skip

    def _linear(self, op: Linear) -> None:
        if not self.keep_all and self._joins_residual(op):
            self.deferred.add(op.out.id)
            return
        self._gemm(op.x, op.weight, op.bias, self._new(op.out), STORE)

    def _gemm(self, x: Value, weight: str, bias: str | None, out: int, mode: int) -> None:
        source, norm, eps = x, -1, 0.0
        if x.id in self.deferred:
            producer = self.producers[x.id]
            assert isinstance(producer, RmsNorm)
            source, norm, eps = producer.x, self._vector(producer.weight), producer.eps
        index = self._weight(weight, bias)
        self._emit(PACK, in_=self._at(source), norm=norm, weight=index, eps=eps)
        self._emit(GEMM, out=out, weight=index, mode=mode)

    def _joins_residual(self, op: Linear | RmsNorm) -> bool:
        """True if the only use of op's result is as `y` of an Add that is x's last use."""
        users = self.users.get(op.out.id, [])
        if len(users) != 1 or not isinstance(users[0], Add):
            return False
        add = users[0]
        return add.y.id == op.out.id and self.last_use[add.x.id] == self.program.ops.index(add)

    def _add(self, op: Add) -> None:
        if op.y.id not in self.deferred:
            out = self._new(op.out)
            self._emit(NORM_ADD, in_=self._at(op.x), out=out, mode=STORE)
            self._emit(NORM_ADD, in_=self._at(op.y), out=out, mode=ADD)
            return
        residual = self.out.value_buffers.pop(op.x.id)
        self.out.value_buffers[op.out.id] = residual
        producer = self.producers[op.y.id]
        if isinstance(producer, Linear):
            self._gemm(producer.x, producer.weight, producer.bias, residual, ADD)
        else:
            assert isinstance(producer, RmsNorm)
            self._emit(NORM_ADD, in_=self._at(producer.x), out=residual,
                       norm=self._vector(producer.weight), mode=ADD, eps=producer.eps)  # fmt: skip

    def _attention(self, op: Attention) -> None:
        shape = {
            "heads": op.num_heads, "kv_heads": op.num_kv_heads, "head_dim": op.head_dim,
            "kv_group": op.kv_group, "cache_layer": op.cache_layer, "window": op.window or 0,
        }  # fmt: skip
        norms = [self._vector(n) if n else -1 for n in (op.q_norm, op.k_norm)]
        self._emit(ROPE_KV, in_=self._at(op.qkv), norm=norms[0], norm2=norms[1],
                   rope=self._vector((op.rope, op.head_dim)), eps=op.norm_eps, **shape)  # fmt: skip
        self._emit(ATTENTION, in_=self._at(op.qkv), out=self._new(op.out), scale=op.scale, **shape)

    def _emit(self, kind: int, scale: float = 1.0, eps: float = 0.0, **fields: int) -> None:
        values = {"kind": kind, "norm": -1, "norm2": -1, "weight": -1, **fields}
        self.out.ints.append([values.get(name, 0) for name in FIELDS])
        self.out.doubles.append([scale, eps])

    def _new(self, value: Value) -> int:
        spare = self.free.get(value.width)
        if spare:
            buffer = spare.pop()
        else:
            buffer = len(self.out.buffers)
            self.out.buffers.append(value.width)
        self.out.value_buffers[value.id] = buffer
        return buffer

    def _at(self, value: Value) -> int:
        return self.out.value_buffers[value.id]

    def _release(self, index: int) -> None:
        """Give back the buffers of values whose last use is behind us (and not a deferred one)."""
        if self.keep_all:
            return
        held = {v.id for d in self.deferred for v in _inputs(self.producers[d])
                if self.last_use[d] > index}  # fmt: skip
        for value in list(self.out.value_buffers):
            if self.last_use.get(value, len(self.program.ops)) <= index and value not in held:
                buffer = self.out.value_buffers.pop(value)
                self.free.setdefault(self.out.buffers[buffer], []).append(buffer)

    def _weight(self, name: str, bias: str | None = None) -> int:
        return _index(self.out.weights, (name, bias))

    def _vector(self, name: str | tuple[RopeConfig, int]) -> int:
        return _index(self.out.vectors, name)


def _index(known: list[Any], item: Any) -> int:
    if item not in known:
        known.append(item)
    return known.index(item)


def _inputs(op: Op) -> list[Value]:
    match op:
        case Embed():
            return []
        case Add():
            return [op.x, op.y]
        case Attention():
            return [op.qkv]
        case _:
            return [op.x]


def _uses(program: Program) -> tuple[dict[int, int], dict[int, list[Op]]]:
    last_use: dict[int, int] = {}
    users: dict[int, list[Op]] = {}
    for index, op in enumerate(program.ops):
        for value in _inputs(op):
            last_use[value.id] = index
            users.setdefault(value.id, []).append(op)
    return last_use, users
