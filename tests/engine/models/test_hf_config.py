"""config.json in the forms found on hubs -> ModelConfig; impossible values name their key."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.models.model_files import TINY
from sixfold.core.config import ModelConfig
from sixfold.core.errors import ModelError, SixfoldError
from sixfold.engine.models.hf_config import parse_hf_config, read_hf_config

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 96, "vocab_size": 100, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "eos_token_id": 2, "bos_token_id": 1,
}  # fmt: skip
QWEN2 = LLAMA | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
GEMMA = {
    "architectures": ["Gemma3ForCausalLM"], "hidden_size": 640, "intermediate_size": 2048,
    "num_hidden_layers": 18, "vocab_size": 262144, "sliding_window": 512, "num_attention_heads": 4,
    "num_key_value_heads": 1, "query_pre_attn_scalar": 256,
}  # fmt: skip


def parse(config, **changes) -> ModelConfig:
    return parse_hf_config(config | changes, {})


def test_llama_with_defaults():
    c = parse(LLAMA)
    assert (c.architecture, c.head_dim, c.num_kv_heads, c.rope.theta) == ("llama", 16, 2, 10000.0)
    assert (c.tie_word_embeddings, c.attention_bias, c.sliding_layers) == (False, False, ())
    assert (c.eos_token_ids, c.bos_token_id, c.max_position_embeddings) == ((2,), 1, 2048)
    assert (c.default_dtype, c.embedding_scale, c.attention_scale) == ("bf16", 1.0, 0.0)


def test_the_architecture_may_stand_in_model_type_alone():
    config = {k: v for k, v in LLAMA.items() if k != "architectures"}
    assert parse(config).architecture == "llama"


def test_eos_ids_are_joined_from_both_files():
    c = parse_hf_config(LLAMA | {"eos_token_id": [2, 7]}, {"eos_token_id": [9, 2]})
    assert c.eos_token_ids == (9, 2, 7)


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_rope_scaling_in_both_spellings(key):
    llama3 = {
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    assert parse(LLAMA, rope_theta=5e5, **{key: llama3}).rope.llama3 == (32.0, 1.0, 4.0, 8192)
    assert parse(LLAMA, **{key: {"type": "linear", "factor": 4}}).rope.linear_factor == 4.0
    assert parse(LLAMA, **{key: {"rope_type": "default"}}).rope.linear_factor == 1.0
    with pytest.raises(ModelError, match="yarn"):
        parse(LLAMA, **{key: {"rope_type": "yarn", "factor": 4}})


def test_rope_theta_may_stand_in_rope_parameters():
    params = {"rope_type": "default", "rope_theta": 1e6}
    assert parse(LLAMA, rope_theta=7.0, rope_parameters=params).rope.theta == 1e6


def test_qwen2_has_biases_and_slides_only_when_told():
    c = parse(QWEN2, sliding_window=32, max_window_layers=1)
    assert c.attention_bias and c.sliding_layers == () and c.sliding_window is None
    c = parse(QWEN2, sliding_window=32, max_window_layers=1, use_sliding_window=True)
    assert (c.sliding_layers, c.sliding_window) == ((False, True), 32)


def test_gemma3_old_spelling():
    c = parse(GEMMA, rope_theta=1e6, rope_local_base_freq=1e4, sliding_window_pattern=6)
    assert c.sliding_layers == tuple((i + 1) % 6 != 0 for i in range(18))
    assert (c.rope.theta, c.rope_local.theta, c.sliding_window) == (1e6, 1e4, 512)
    assert (c.head_dim, c.attention_scale, c.tie_word_embeddings) == (256, 1 / 16, True)
    assert c.embedding_scale == math.sqrt(640)
    assert c.eos_token_ids == (1,)


def test_gemma3_new_spelling_and_inside_a_multimodal_config():
    rope = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
    }
    types = ["sliding_attention"] * 17 + ["full_attention"]
    text = {k: v for k, v in GEMMA.items() if k != "architectures"}
    text |= {"rope_parameters": rope, "layer_types": types}
    c = parse({
        "architectures": ["Gemma3ForConditionalGeneration"], "text_config": text,
        "eos_token_id": [1, 106],
    })  # fmt: skip
    assert (c.rope.theta, c.rope.linear_factor, c.rope_local.theta) == (1e6, 8.0, 2e4)
    assert c.sliding_layers == (True,) * 17 + (False,)
    assert c.eos_token_ids == (1, 106)


@pytest.mark.parametrize("name", sorted(p.name for p in TINY.iterdir()))
def test_the_tiny_checkpoints(name):
    c = read_hf_config(TINY / name)
    assert c.architecture == name.split("_")[0] and c.vocab_size == 256 and c.name == name


BAD = [
    ("hidden_size", -64), ("hidden_size", 0), ("hidden_size", "64"), ("hidden_size", True),
    ("hidden_size", 1e30), ("hidden_size", 64.5), ("hidden_size", [64]), ("hidden_size", 10**4000),
    ("hidden_size", 60), ("num_hidden_layers", 10**9), ("num_attention_heads", 0),
    ("num_key_value_heads", 3), ("num_key_value_heads", 8), ("head_dim", 15), ("vocab_size", 0),
    ("vocab_size", 2**40), ("intermediate_size", 33), ("rms_norm_eps", float("nan")),
    ("rms_norm_eps", 0), ("rms_norm_eps", -1e-5), ("rope_theta", float("inf")), ("rope_theta", 0),
    ("rope_theta", "10000"), ("eos_token_id", 100), ("eos_token_id", -1), ("eos_token_id", "</s>"),
    ("eos_token_id", [2, None]), ("eos_token_id", {}), ("bos_token_id", 1.5),
    ("hidden_act", "gelu"), ("hidden_act", 3), ("attention_bias", True), ("mlp_bias", True),
    ("tie_word_embeddings", "yes"), ("rope_scaling", "linear"), ("rope_scaling", {"type": []}),
    ("rope_scaling", {"type": "linear"}), ("rope_scaling", {"type": "linear", "factor": 0}),
    ("partial_rotary_factor", 0.5), ("quantization_config", {"quant_method": "gptq"}),
    ("max_position_embeddings", 2**40), ("architectures", ["MambaForCausalLM"]),
    ("architectures", []), ("architectures", "LlamaForCausalLM"), ("architectures", [1]),
    ("num_local_experts", 8),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), BAD, ids=[f"{k}={str(v)[:30]}" for k, v in BAD])
def test_a_bad_value_is_a_model_error_with_a_hint(key, value):
    with pytest.raises(ModelError) as caught:
        parse(LLAMA, **{key: value})
    assert caught.value.hint and len(caught.value.message) < 400


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "vocab_size"])
def test_a_missing_key_is_named(key):
    with pytest.raises(ModelError, match=key):
        parse({k: v for k, v in LLAMA.items() if k != key})


def test_an_unknown_architecture_lists_the_known_ones():
    with pytest.raises(ModelError) as caught:
        parse(LLAMA, architectures=["MambaForCausalLM"])
    assert "Qwen3ForCausalLM" in caught.value.hint


def test_auto_map_is_ignored():
    assert parse(LLAMA, auto_map={"AutoModel": "evil.py"}) == parse(LLAMA)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": NaN}', '{"a": 1, "a": 2}', "[" * 10**5])
def test_a_file_that_is_no_json_object(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError):
        read_hf_config(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["rope_type", "factor", "rope_theta", "full_attention", "x"]), inner,
        max_size=3,
    ),
    max_leaves=6,
)  # fmt: skip
KEYS = sorted({
    *LLAMA, *GEMMA, "rope_scaling", "rope_parameters", "layer_types", "head_dim", "text_config",
    "use_sliding_window", "max_window_layers", "sliding_window_pattern", "rope_theta",
    "quantization_config", "tie_word_embeddings", "rope_local_base_freq", "partial_rotary_factor",
})  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    base=st.sampled_from([LLAMA, QWEN2, GEMMA]),
    changes=st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4),
    generation=st.dictionaries(st.just("eos_token_id"), JSON),
)
def test_any_json_gives_a_sound_config_or_a_sixfold_error(base, changes, generation):
    try:
        c = parse_hf_config(base | changes, generation)
    except SixfoldError as error:
        assert error.hint
        return
    assert c.num_heads % c.num_kv_heads == 0 and c.hidden_size % 32 == 0
    assert math.isfinite(c.rope.theta) and len(c.sliding_layers) in (0, c.num_layers)
    json.dumps([c.eos_token_ids, c.bos_token_id], allow_nan=False)
