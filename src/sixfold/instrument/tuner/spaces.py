"""What to try on each engine: the strategies' switches from the cards, and sizes that matter.

Data and its reading only. Lossy values are left out unless asked for. Not here: the order of
trying (search.py), how far lossy settings may go (quality.py).
"""

from collections.abc import Mapping

from sixfold.core.errors import ConfigError
from sixfold.instrument.backends.grid import Axis, parse_axes
from sixfold.instrument.backends.spec import EngineSpec, Scalar
from sixfold.instrument.tuner.space import Condition, Coupled, Parameter, Space, has
from sixfold.strategies import CARDS

Values = tuple[Scalar, ...]

SIZES: Mapping[str, Mapping[str, Values]] = {
    "sixfold": {
        "max_num_seqs": (4, 8, 16, 32, 64),
        "max_num_batched_tokens": (64, 128, 256, 512, 1024),
    },
    "vllm": {
        "max_num_seqs": (16, 32, 64, 128, 256),
        "max_num_batched_tokens": (512, 1024, 2048, 4096, 8192),
    },
    "sglang": {
        "max_running_requests": (16, 32, 64, 128, 256),
        "chunked_prefill_size": (512, 1024, 2048, 4096, 8192),
    },
    "llamacpp": {
        "parallel": (4, 8, 16, 32, 64),
        "ubatch_size": (64, 128, 256, 512),
    },
}
"""Engine -> flag -> values, the smallest first."""

SWITCHED = (
    "static batching", "continuous batching", "prefix caching", "FlashAttention",
    "speculative decoding",
)  # fmt: skip
"""Cards whose switch belongs to one server; routers and parallel layouts are no server's flag."""

BASELINES = {"sixfold": ("attention",)}
"""Switches whose other side is there to be measured against, and never wins."""

AT_MOST: Mapping[str, tuple[str, str]] = {
    "sixfold": ("max_num_seqs", "max_num_batched_tokens"),
    "vllm": ("max_num_seqs", "max_num_batched_tokens"),
}
"""Of two sizes, the first may not exceed the second: every request takes a token of a step.

More sequences than tokens are as many as tokens to sixfold, and an error to vLLM."""

LOSSY: Mapping[str, tuple[Parameter, ...]] = {
    "sixfold": (Parameter("dtype", ("bf16", "int8", "int4"), lossy=("int8", "int4")),),
    "vllm": (Parameter("kv_cache_dtype", ("auto", "fp8"), lossy=("fp8",)),),
    "sglang": (Parameter("kv_cache_dtype", ("auto", "fp8_e5m2"), lossy=("fp8_e5m2",)),),
    "llamacpp": (
        Parameter("cache_type_k", ("f16", "q8_0"), lossy=("q8_0",)),
        # Without flash attention llama.cpp refuses to quantise V.
        Parameter(
            "cache_type_v",
            ("f16", "q8_0"),
            lossy=("q8_0",),
            only_if=(Condition("flash_attn", ("on",)),),
        ),
    ),
}
"""What is tried in fewer bits: only with consent and a quality check."""

_FLOATS = ("auto", "half", "float16", "bfloat16", "float", "float32")
PRECISION: Mapping[str, Mapping[str, Values]] = {
    "sixfold": {"dtype": ("auto", "f32", "bf16")},
    "vllm": {
        "dtype": _FLOATS,
        "kv_cache_dtype": _FLOATS,
        "quantization": (),
        "quantization_config": (),
        "mamba_cache_dtype": _FLOATS,
        "mamba_ssm_cache_dtype": _FLOATS,
    },
    "sglang": {
        "dtype": _FLOATS,
        "kv_cache_dtype": (*_FLOATS, "bf16"),
        "quantization": (),
        "torchao_config": (),
        "modelopt_quant": (),
        "quantize_and_serve": (False,),
        "rl_quant_profile": (),
        "enable_quant_communications": (False,),
        "mamba_ssm_dtype": _FLOATS,
    },
    "llamacpp": {
        "cache_type_k": ("f32", "f16", "bf16"),
        "cache_type_v": ("f32", "f16", "bf16"),
    },
}
"""Engine -> flag that changes what the model says -> values that keep all its bits."""


def switches(engine: str) -> dict[str, Values]:
    """Flags that turn a lossless strategy on and off in an engine, as the cards name them."""
    found: dict[str, list[Scalar]] = {}
    for card in CARDS:
        knob = card.knobs.get(engine)
        if card.name not in SWITCHED or knob is None or knob.off is None:
            continue
        for switch in (knob.on, knob.off):
            for name, value in read_switch(switch):
                if name in BASELINES.get(engine, ()):
                    continue
                values = found.setdefault(name, [])
                if value not in values:
                    values.append(value)
    return {name: tuple(values) for name, values in found.items() if len(values) > 1}


def read_switch(switch: str) -> list[tuple[str, Scalar]]:
    """A card's switch: "--batching static" -> batching, static; "--no-x" -> x, False."""
    if not switch:
        return []
    name, _, value = switch.removeprefix("--").partition(" ")
    if value:
        return [(name.replace("-", "_"), value)]
    on = not name.startswith("no-")
    return [(name.removeprefix("no-").replace("-", "_"), on)]


def default_space(engine: str, lossy: bool = False) -> Space:
    """What to try. Raises ConfigError for an engine without a space of its own.

    A server that runs already has nothing to try: its space is one empty configuration.
    """
    if engine == "openai":
        return Space(())
    if engine not in SIZES:
        raise ConfigError(
            f"nothing is known of what to try on {engine!r}",
            'say it: --space "max_num_seqs=[8,16];max_num_batched_tokens=[256,512]"',
        )
    plain = tuple(Parameter(name, values) for name, values in switches(engine).items())
    sizes = sized(SIZES[engine], AT_MOST.get(engine))
    return Space((*sizes, *plain, *(LOSSY[engine] if lossy else ())))


def sized(
    sizes: Mapping[str, Values], at_most: tuple[str, str] | None
) -> tuple[Parameter | Coupled, ...]:
    """Sizes as parameters; two of which one bounds the other are coupled where that matters."""
    plain = {name: Parameter(name, values, ordered=True) for name, values in sizes.items()}
    if at_most is None:
        return tuple(plain.values())
    less, more = (sizes[name] for name in at_most)
    rows = tuple((a, b) for a in less for b in more if float(a) <= float(b))
    if len(rows) == len(less) * len(more):
        return tuple(plain.values())
    others = [one for name, one in plain.items() if name not in at_most]
    return (Coupled(at_most, rows), *others)


def given_space(text: str) -> Space:
    """A space in the grid language; coupled names stay coupled, dashes become underscores.

    Raises ConfigError for what can't be read.
    """
    return Space(tuple(_parameter(axis) for axis in parse_axes(text)))


def _parameter(axis: Axis) -> Parameter | Coupled:
    names, rows = tuple(plain_name(name) for name in axis[0]), axis[1]
    once = tuple({tuple((isinstance(v, bool), v) for v in row): row for row in rows}.values())
    if len(names) > 1:
        return Coupled(names, once)
    return Parameter(names[0], tuple(row[0] for row in once))


def plain_name(flag: str) -> str:
    """A flag's one spelling: kv-cache-dtype is kv_cache_dtype."""
    return flag.replace("-", "_")


def precision_flags(engine: str) -> Mapping[str, Values]:
    """Flags of an engine that change what the model says, with values that do not.

    Behind a command there may be any engine: all of their flags count.
    """
    if engine == "command":
        return {flag: values for flags in PRECISION.values() for flag, values in flags.items()}
    return PRECISION.get(engine, {})


def check_consent(spec: EngineSpec, space: Space) -> None:
    """Raises ConfigError if a value of the space changes what the model of the baseline says."""
    flags = precision_flags(spec.engine)
    baseline = {plain_name(name): value for name, value in spec.flags.items()}
    for parameter in space.parameters:
        for row in parameter.rows:
            for name, value in zip(parameter.names, row, strict=True):
                known = (*flags.get(name, ()), *([baseline[name]] if name in baseline else []))
                if name in flags and not has(known, value):
                    raise ConfigError(
                        f"{name}={value} changes what the model says",
                        "consent with --allow-lossy: it is then held against the defaults' answers",
                    )
