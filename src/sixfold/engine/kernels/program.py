"""The op program: a model's forward pass as a list of ops, built once by a model file.

A model file calls the builder's methods and so reads like the model's diagram. The result is
plain data: `reference.py` runs it in NumPy, `lower.py` fuses it for the native executor, and
it can be cut at layer borders. Nothing here computes.

Shapes: T tokens in the step, H query heads, KH KV heads, D head size, E hidden, F ffn, V vocab.
Every value is [T, width] float32.
"""

from dataclasses import dataclass, field
from typing import Literal

from sixfold.core.config import KVGroup, RopeConfig

Activation = Literal["silu", "gelu_tanh"]


@dataclass(frozen=True, slots=True)
class Value:
    """One [T, width] float32 matrix of the program; `id` is its single assignment."""

    id: int
    width: int


@dataclass(frozen=True, slots=True)
class Embed:
    """out = table[token] * scale. `table` is a [V, E] linear weight, read by rows."""

    out: Value
    table: str
    scale: float


@dataclass(frozen=True, slots=True)
class RmsNorm:
    """out = x / sqrt(mean(x^2) + eps) * weight, over rows of x (Zhang and Sennrich, 2019)."""

    out: Value
    x: Value
    weight: str
    eps: float


@dataclass(frozen=True, slots=True)
class Linear:
    """out = x @ weight.T (+ bias). `weight` is packed [N, K], K = x.width, N = out.width."""

    out: Value
    x: Value
    weight: str
    bias: str | None


@dataclass(frozen=True, slots=True)
class Glu:
    """out = act(x @ gate.T) * (x @ up.T). `weight` is gate and up packed as one [2F, K] matrix.

    Rows come in alternating runs of 16: gate 0..15, up 0..15, gate 16..31 ... (one panel of 32
    columns holds 16 gates and their 16 ups, so that a kernel's tile ends with the product).
    """

    out: Value
    x: Value
    weight: str
    activation: Activation


@dataclass(frozen=True, slots=True)
class Add:
    """out = x + y (the residual)."""

    out: Value
    x: Value
    y: Value


@dataclass(frozen=True, slots=True)
class Attention:
    """Causal attention over the paged KV cache, from the joint projection `qkv`.

    `qkv` is [T, (H + 2 KH) D]: queries, keys, values. In this order: q and k are normalised per
    head (if q_norm and k_norm are given: RMS over D), rotated (`rope`, halves d and d + D/2),
    k and v are written to the cache at the token's slot, and each query attends to the keys of
    its own sequence at positions (p - window, p] (all up to p without a window).
    `cache_layer` counts the layers of its KV group. out = softmax(scale q k^T) v, [T, H D].
    """

    out: Value
    qkv: Value
    layer: int
    kv_group: int
    cache_layer: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    rope: RopeConfig
    window: int | None = None
    q_norm: str | None = None
    k_norm: str | None = None
    norm_eps: float = 1e-6


@dataclass(frozen=True, slots=True)
class Logits:
    """logits[S, V] = rms_norm(x[sampling rows]) @ weight.T: only for the rows that sample."""

    x: Value
    norm: str
    eps: float
    weight: str
    vocab_size: int


Op = Embed | RmsNorm | Linear | Glu | Add | Attention | Logits


@dataclass(frozen=True, slots=True)
class Program:
    """The whole forward pass. `layer_starts[i]` is the index of layer i's first op."""

    ops: tuple[Op, ...]
    layer_starts: tuple[int, ...]
    kv_groups: tuple[KVGroup, ...]
    num_values: int


@dataclass(slots=True)
class ProgramBuilder:
    """Collects ops. Weight names are those of `models/weights.py`."""

    ops: list[Op] = field(default_factory=list)
    layer_starts: list[int] = field(default_factory=list)
    kv_groups: dict[int | None, int] = field(default_factory=dict)
    _group_layers: list[int] = field(default_factory=list)
    _num_values: int = 0

    def begin_layer(self) -> None:
        """Mark a layer's start: a program can be cut here."""
        self.layer_starts.append(len(self.ops))

    def embed(self, table: str, width: int, scale: float = 1.0) -> Value:
        """Look up the step's tokens."""
        out = self._value(width)
        self.ops.append(Embed(out, table, scale))
        return out

    def rms_norm(self, x: Value, weight: str, eps: float) -> Value:
        """Normalise rows."""
        out = self._value(x.width)
        self.ops.append(RmsNorm(out, x, weight, eps))
        return out

    def linear(self, x: Value, weight: str, width: int, bias: str | None = None) -> Value:
        """Multiply by a packed [width, x.width] weight."""
        out = self._value(width)
        self.ops.append(Linear(out, x, weight, bias))
        return out

    def glu(self, x: Value, weight: str, width: int, activation: Activation) -> Value:
        """Gated unit of the feed-forward layer; `width` is F."""
        out = self._value(width)
        self.ops.append(Glu(out, x, weight, activation))
        return out

    def add(self, x: Value, y: Value) -> Value:
        """Residual sum."""
        out = self._value(x.width)
        self.ops.append(Add(out, x, y))
        return out

    def attention(
        self,
        qkv: Value,
        heads: tuple[int, int, int],
        scale: float,
        rope: RopeConfig,
        window: int | None = None,
        norms: tuple[str, str, float] | None = None,
    ) -> Value:
        """Attend; `heads` is (H, KH, D), `norms` is (q weight, k weight, eps)."""
        group = self.kv_groups.setdefault(window, len(self.kv_groups))
        if group == len(self._group_layers):
            self._group_layers.append(0)
        q_norm, k_norm, eps = norms or (None, None, 1e-6)
        out = self._value(heads[0] * heads[2])
        self.ops.append(
            Attention(
                out, qkv, len(self.layer_starts) - 1, group, self._group_layers[group],
                *heads, scale, rope, window, q_norm, k_norm, eps,
            )
        )  # fmt: skip
        self._group_layers[group] += 1
        return out

    def logits(self, x: Value, norm: str, eps: float, weight: str, vocab_size: int) -> None:
        """Final norm and output projection."""
        self.ops.append(Logits(x, norm, eps, weight, vocab_size))

    def build(self) -> Program:
        """Freeze."""
        groups = tuple(
            KVGroup(layers, window)
            for window, layers in zip(self.kv_groups, self._group_layers, strict=True)
        )
        return Program(tuple(self.ops), tuple(self.layer_starts), groups, self._num_values)

    def _value(self, width: int) -> Value:
        self._num_values += 1
        return Value(self._num_values - 1, width)
