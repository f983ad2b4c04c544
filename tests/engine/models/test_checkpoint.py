"""Checkpoints: the same tensors from Hugging Face's files and from GGUF, and their content key."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from engine.models.gguf_writer import f32_tensor, gguf_bytes, random_tensor
from engine.models.model_files import MIXED, TINY, converted, small_gguf, small_llama
from sixfold.core.errors import ModelError, NotFoundError
from sixfold.engine.models import content_key
from sixfold.engine.models.checkpoint import open_checkpoint
from sixfold.engine.models.weight_names import expected_shapes

NAMES = ("llama", "qwen2", "qwen3", "gemma3")
SHARED = (
    "num_heads", "head_dim", "vocab_size", "tie_word_embeddings", "attention_bias", "rope",
    "sliding_layers", "sliding_window", "embedding_scale", "eos_token_ids", "bos_token_id",
)  # fmt: skip


def opened(path):
    return open_checkpoint(path, path.parent / "cache")


@pytest.fixture
def small(tmp_path):
    """Opens `small_llama` after a change of its tensors."""

    def write_and_open(change=lambda tensors: tensors, kinds=None):
        metadata, tensors = small_llama(kinds)
        (tmp_path / "m.gguf").write_bytes(gguf_bytes(metadata, change(tensors)))
        return opened(tmp_path / "m.gguf")

    return write_and_open


@pytest.mark.parametrize("name", NAMES)
def test_gguf_and_safetensors_hold_the_same_model(tmp_path, name):
    ours = opened(TINY / name)
    (tmp_path / "m.gguf").write_bytes(gguf_bytes(*converted(ours.config, ours.tensors)))
    theirs = opened(tmp_path / "m.gguf")
    assert sorted(theirs.tensors) == sorted(ours.tensors) == sorted(expected_shapes(ours.config))
    for key, tensor in ours.tensors.items():
        rows = tensor.shape[0]
        assert theirs.tensors[key].shape == tensor.shape
        expected = tensor.rows(0, rows)
        assert np.array_equal(theirs.tensors[key].rows(0, rows), expected), key
        for start, stop in ((0, 1), (rows // 3, rows // 2), (rows - 5, rows)):
            part = theirs.tensors[key].rows(start, stop)
            assert np.array_equal(part, expected[start:stop]), key
    for field in SHARED:
        assert getattr(theirs.config, field) == getattr(ours.config, field), field


def test_gemma_norms_are_final_multipliers():
    stored = load_file(TINY / "qwen2" / "model.safetensors")["model.norm.weight"]
    ours = opened(TINY / "qwen2").tensors["final_norm.weight"].rows(0, 64)
    assert np.array_equal(ours, stored.astype(np.float32))
    gemma = opened(TINY / "gemma3").tensors
    means = [t.rows(0, t.shape[0]).mean() for n, t in gemma.items() if n.endswith("norm.weight")]
    assert 0.8 < np.mean(means) < 1.6  # as stored, they are around zero


def test_codes_are_unpermuted_with_their_rows(small):
    tensors = small(kinds=MIXED | {"attn_k": "q8_0"}).tensors
    q, k = tensors["layers.0.q.weight"], tensors["layers.0.k.weight"]
    codes, scale, minimum = q.rows_w4(5, 37)
    values = codes.reshape(32, -1, 32) * scale[:, :, None] + minimum[:, :, None]
    assert np.array_equal(values.reshape(32, 256), q.rows(5, 37))
    codes8, scale8 = k.rows_w8(3, 32)
    values = codes8.reshape(29, -1, 32) * scale8[:, :, None]
    assert np.array_equal(values.reshape(29, 256), k.rows(3, 32))
    assert tensors["layers.0.o.weight"].rows_w4(0, 8) is None
    assert tensors["layers.0.o.weight"].rows_w8(0, 8) is None


def test_a_missing_tensor_is_named(small):
    with pytest.raises(ModelError, match=r"lack tensor blk\.0\.ffn_up\.weight"):
        small(lambda tensors: [t for t in tensors if t.name != "blk.0.ffn_up.weight"])


def test_a_wrong_shape_is_named(small):
    wrong = random_tensor("blk.0.ffn_up.weight", "q8_0", (32, 256))
    with pytest.raises(ModelError, match=r"blk\.0\.ffn_up\.weight has shape \[32, 256\]"):
        small(lambda tensors: [wrong if t.name == wrong.name else t for t in tensors])


@pytest.mark.parametrize("name", ["blk.0.attn_output.bias", "blk.0.attn_sinks.weight"])
def test_a_layer_tensor_without_use_is_refused(small, name):
    with pytest.raises(ModelError, match=name):
        small(lambda tensors: [*tensors, f32_tensor(name, np.ones(256))])


@pytest.mark.parametrize("name", ["blk.1.nextn.weight", "extra.weight", "blk.0.attn_rot_embd.x"])
def test_other_tensors_are_ignored(small, name):
    small(lambda tensors: [*tensors, f32_tensor(name, np.ones(256))])


def test_biases_of_a_llama_are_unpermuted_too(small):
    def change(tensors):
        bias = {n: np.arange(s, dtype=np.float32) for n, s in (("q", 64), ("k", 32), ("v", 32))}
        return [*tensors, *(f32_tensor(f"blk.0.attn_{n}.bias", b) for n, b in bias.items())]

    tensors = small(change).tensors
    assert tensors["layers.0.q.bias"].rows(0, 3).tolist() == [0, 2, 4]
    assert tensors["layers.0.q.bias"].rows(16, 18).tolist() == [1, 3]
    assert tensors["layers.0.v.bias"].rows(0, 3).tolist() == [0, 1, 2]


def test_values_that_are_not_finite_are_an_error(small):
    bad = f32_tensor("output_norm.weight", np.full(256, np.nan))
    tensors = small(lambda ts: [bad if t.name == bad.name else t for t in ts]).tensors
    with pytest.raises(ModelError, match=r"final_norm\.weight"):
        tensors["final_norm.weight"].rows(0, 256)


def test_a_file_that_shrinks_is_an_error(small, tmp_path):
    tensor = small().tensors["layers.0.down.weight"]
    with (tmp_path / "m.gguf").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ModelError, match="shrank"):
        tensor.rows(0, 8)


def test_a_directory_with_one_gguf_is_that_file(tmp_path):
    (tmp_path / "only.gguf").write_bytes(small_gguf())
    assert opened(tmp_path).path == tmp_path / "only.gguf"
    (tmp_path / "second.gguf").write_bytes(small_gguf())
    with pytest.raises(ModelError, match=r"one \.gguf"):
        opened(tmp_path)


def test_no_such_path():
    with pytest.raises(NotFoundError):
        open_checkpoint(TINY / "nothing")


def test_weights_of_another_model_are_refused(tmp_path):
    shutil.copytree(TINY / "llama", tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"intermediate_size": 128}))
    with pytest.raises(ModelError, match=r"gate_proj\.weight has shape"):
        opened(tmp_path / "m")


def test_an_integer_tensor_is_no_weight(tmp_path):
    shutil.copytree(TINY / "qwen3", tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    file.write_bytes(file.read_bytes().replace(b'"BF16"', b'"I16" ', 1))
    with pytest.raises(ModelError, match="stored as I16"):
        opened(tmp_path / "m")


def test_the_content_key_is_remembered_and_follows_the_content(tmp_path, monkeypatch):
    path, hashed = tmp_path / "m.gguf", []
    plain = content_key.sha256_file
    monkeypatch.setattr(content_key, "sha256_file", lambda p: (hashed.append(p), plain(p))[1])
    path.write_bytes(small_gguf())
    first = opened(path).content_key
    assert opened(path).content_key == first == plain(path) and len(hashed) == 1
    path.write_bytes(small_gguf(MIXED))
    assert opened(path).content_key != first and len(hashed) == 2
    (tmp_path / "cache" / content_key.MEMO).write_text('{"damaged": 1')
    assert opened(path).content_key == plain(path) and len(hashed) == 3


def test_the_content_key_of_a_directory_covers_its_configuration(tmp_path):
    shutil.copytree(TINY / "llama", tmp_path / "m")
    first = opened(tmp_path / "m").content_key
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"rope_theta": 1e6}))
    assert opened(tmp_path / "m").content_key != first


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path):
    (tmp_path / "m.gguf").write_bytes(small_gguf())
    (tmp_path / "file").write_text("")
    checkpoint = open_checkpoint(tmp_path / "m.gguf", tmp_path / "file" / "cache")
    assert len(checkpoint.content_key) == 64
