"""GGUF metadata -> ModelConfig."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.models.gguf_writer import f32_tensor, gguf_bytes
from engine.models.model_files import small_llama
from sixfold.core.config import RopeConfig
from sixfold.core.errors import ModelError, SixfoldError
from sixfold.engine.kernels.rope import inv_freq
from sixfold.engine.models.gguf import read_gguf
from sixfold.engine.models.gguf_config import read_gguf_config, rope_of_factors


@pytest.fixture
def config_of(tmp_path):
    def write_and_read(changes=None, extra=(), kinds=None, drop=()):
        metadata, tensors = small_llama(kinds)
        metadata = {k: v for k, v in (metadata | (changes or {})).items() if k not in drop}
        (tmp_path / "m.gguf").write_bytes(gguf_bytes(metadata, [*tensors, *extra]))
        return read_gguf_config(read_gguf(tmp_path / "m.gguf"))

    return write_and_read


def gemma(**changes):
    """The changes that make a Gemma 3 of `small_llama`'s metadata."""
    metadata, _ = small_llama()
    out = {k.replace("llama.", "gemma3."): v for k, v in metadata.items() if k.startswith("llama.")}
    out |= {"general.architecture": "gemma3", "gemma3.block_count": 7}
    return out | {f"gemma3.{k}": v for k, v in changes.items()}


def test_llama(config_of):
    c = config_of()
    assert (c.architecture, c.hidden_size, c.num_layers, c.ffn_size) == ("llama", 256, 1, 64)
    assert (c.num_heads, c.num_kv_heads, c.head_dim, c.vocab_size) == (2, 1, 32, 16)
    assert (c.tie_word_embeddings, c.attention_bias, c.name) == (True, False, "small")
    assert (c.eos_token_ids, c.bos_token_id) == ((2, 3), 1)


@pytest.mark.parametrize(
    ("kinds", "dtype"),
    [
        ({}, "int8"),
        (dict.fromkeys(("ffn_gate", "ffn_up", "ffn_down", "attn_q"), "q4_1"), "int4"),
        (dict.fromkeys(("ffn_gate", "ffn_up", "ffn_down", "attn_q"), "f16"), "bf16"),
    ],
)
def test_the_default_dtype_is_that_of_most_weights(config_of, kinds, dtype):
    assert config_of(kinds=kinds).default_dtype == dtype


def test_counts_may_be_arrays_of_equal_numbers(config_of):
    assert config_of({"llama.attention.head_count_kv": [1, 1]}).num_kv_heads == 1
    with pytest.raises(ModelError, match="differs between layers"):
        config_of({"llama.attention.head_count_kv": [1, 2]})


def test_linear_rope_scaling(config_of):
    scaled = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    assert config_of(scaled).rope.linear_factor == 4.0
    assert config_of(scaled | {"llama.rope.scaling.type": "none"}).rope.linear_factor == 1.0
    assert config_of({"llama.rope.scale_linear": 2.0}).rope.linear_factor == 2.0
    with pytest.raises(ModelError, match="yarn"):
        config_of({"llama.rope.scaling.type": "yarn"})


def llama3_divisors(theta, scaling, half=16):
    plain = inv_freq(RopeConfig(theta=theta), 2 * half)
    return (plain / inv_freq(RopeConfig(theta=theta, llama3=scaling), 2 * half)).astype(np.float32)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_rope_factors_of_llama3_are_recognised(config_of, factor):
    scaling = (factor, 1.0, 4.0, 8192)
    extra = f32_tensor("rope_freqs.weight", llama3_divisors(500000.0, scaling))
    c = config_of({"llama.rope.freq_base": 500000.0}, [extra])
    assert c.rope == RopeConfig(theta=500000.0, llama3=scaling)
    assert config_of(extra=[f32_tensor("rope_freqs.weight", np.ones(16))]).rope.llama3 is None


def test_other_rope_factors_are_refused(config_of):
    with pytest.raises(ModelError, match="not those of Llama 3"):
        rope_of_factors(np.linspace(1, 9, 16, dtype=np.float32), 10000.0, 8192)
    for bad in (np.ones(8), np.full(16, np.nan), np.zeros(16)):
        with pytest.raises(ModelError):
            config_of(extra=[f32_tensor("rope_freqs.weight", bad)])


def test_gemma3_defaults(config_of):
    c = config_of(gemma(**{"attention.sliding_window": 512, "rope.freq_base": 1e6}))
    assert c.sliding_layers == (True,) * 5 + (False, True)
    assert (c.sliding_window, c.rope.theta, c.rope_local.theta) == (512, 1e6, 1e4)
    assert (c.embedding_scale, c.attention_scale) == (16.0, 32**-0.5)


def test_gemma3_with_its_own_pattern(config_of):
    window = {"attention.sliding_window": 8}
    flags = [True, False] * 3 + [True]
    c = config_of(gemma(**window, **{"attention.sliding_window_pattern": flags}))
    assert c.sliding_layers == tuple(flags)
    c = config_of(gemma(**window, **{"attention.sliding_window_pattern": 2}))
    assert c.sliding_layers == (True, False) * 3 + (True,)
    with pytest.raises(ModelError):
        config_of(gemma(**window, **{"attention.sliding_window_pattern": [True]}))
    assert config_of(gemma()).sliding_window is None


def test_gemma3_27b_scales_by_hidden_size(config_of):
    c = config_of(gemma(block_count=62))
    assert c.attention_scale == (256 // 2) ** -0.5


BAD = [
    ("general.architecture", "mamba"), ("general.architecture", 3), ("llama.block_count", 0),
    ("llama.block_count", "1"), ("llama.embedding_length", 250), ("llama.expert_count", 8),
    ("llama.attention.head_count", 3_000_000_000), ("llama.attention.value_length", 64),
    ("llama.rope.dimension_count", 16), ("llama.rope.freq_base", float("nan")),
    ("llama.rope.freq_base", 0.0), ("llama.attention.layer_norm_rms_epsilon", float("inf")),
    ("tokenizer.ggml.eos_token_id", 16), ("tokenizer.ggml.bos_token_id", 2**32 - 1),
    ("llama.context_length", [1, 2]), ("llama.attention.head_count_kv", ["1"]),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), BAD)
def test_a_bad_value_is_a_model_error_with_a_hint(config_of, key, value):
    with pytest.raises(ModelError) as caught:
        config_of({key: value})
    assert caught.value.hint


@pytest.mark.parametrize(
    "key", ["llama.block_count", "llama.attention.layer_norm_rms_epsilon", "llama.context_length"]
)
def test_a_missing_key_is_named(config_of, key):
    with pytest.raises(ModelError, match=key.removeprefix("llama.")):
        config_of(drop=(key,))


WINDOW = "gemma3.attention.sliding_window"
MORE = ("llama.rope.scaling.factor", "gemma3.rope.scaling.type", WINDOW, f"{WINDOW}_pattern")
KEYS = sorted({*small_llama()[0], *gemma(), *MORE})
VALUES = (
    st.booleans() | st.integers(0, 2**32 - 1) | st.floats(width=32) | st.text(max_size=8)
    | st.lists(st.integers(-(2**31), 2**31 - 1), max_size=8) | st.lists(st.text(max_size=4))
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.booleans(), st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
def test_any_metadata_gives_a_sound_config_or_a_sixfold_error(tmp_path_factory, is_gemma, changes):
    metadata, tensors = small_llama()
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    path.write_bytes(gguf_bytes(metadata | (gemma() if is_gemma else {}) | changes, tensors))
    try:
        c = read_gguf_config(read_gguf(path))
    except SixfoldError as error:
        assert error.hint
        return
    assert c.num_heads % c.num_kv_heads == 0 and len(c.sliding_layers) in (0, c.num_layers)
