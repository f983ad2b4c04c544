"""Key frames: attention stays, rounding errors shrink; found where they are, kept in a file."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sixfold.core.config import EngineConfig
from sixfold.engine.engine import LLMEngine
from sixfold.engine.kernels.reference import ReferenceModel
from sixfold.engine.kernels.reference_attention import framed, round_int8
from sixfold.engine.models.checkpoint import open_checkpoint
from sixfold.engine.models.tokenizer import load_tokenizer
from sixfold.engine.models.weights import load_weights
from sixfold.engine.runner import key_frames as key_frames_module
from sixfold.engine.runner.calibration import Source, text_step
from sixfold.engine.runner.executor import build_program
from sixfold.engine.runner.key_frames import digest, frames_of, key_frames, observe

MODEL = Path(__file__).parents[2] / "golden" / "tiny_gguf" / "tiny-llama.gguf"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    checkpoint = open_checkpoint(MODEL)
    cache = tmp_path_factory.mktemp("packed")
    weights = load_weights(checkpoint, "f32", cache)
    source = Source(checkpoint, "f32", cache)
    return source, build_program(checkpoint.config), weights, load_tokenizer(MODEL).encode


def scores(q, k):
    """[T, H, T] of q [T, H, D] and k [T, KH, D]."""
    tokens, heads, dim = q.shape
    groups = q.reshape(tokens, k.shape[1], -1, dim)
    return np.einsum("nghd,lgd->nghl", groups, k).reshape(tokens, heads, tokens)


def centred(x):
    return x - x.mean(axis=-1, keepdims=True)


def uneven(seed, tokens=64, heads=(4, 2), dim=64):
    """Keys with a mean and some large channels, where queries are small: as QK norms make them."""
    rng = np.random.default_rng(seed)
    size = np.exp(rng.normal(0, 1.5, dim))
    q = rng.normal(0, 1, (tokens, heads[0], dim)) / size
    k = rng.normal(0, 1, (tokens, heads[1], dim)) * size + 3 * size * rng.normal(0, 1, dim)
    return q.astype(np.float32), k.astype(np.float32)


@given(st.integers(0, 2**32 - 1))
def test_all_scores_of_a_query_move_alike(seed):
    q, k = uneven(seed)
    want, got = scores(q, k), scores(*framed(q, k, frames_of(q, k)))
    size = np.abs(centred(want)).max() + np.abs(want).max()
    np.testing.assert_allclose(centred(got), centred(want), atol=1e-4 * size)


@given(st.integers(0, 2**32 - 1))
def test_rounded_keys_give_truer_scores(seed):
    q, k = uneven(seed)
    errors = []
    for frames in (frames_of(q, k), None):
        ours, keys = framed(q, k, frames)
        errors.append(np.square(centred(scores(ours, round_int8(keys)) - scores(ours, keys))).sum())
    assert errors[0] < errors[1] / 4


@given(st.integers(0, 3), st.booleans(), st.booleans())
def test_silent_channels_have_finite_frames(tokens, no_queries, no_keys):
    q, k = uneven(1, tokens)
    q, k = q * (not no_queries), k * (not no_keys)
    frames = frames_of(q, k)
    assert frames.shape == (3, 2, 64) and np.isfinite(frames).all() and (frames[:2] > 0).all()


def test_native_and_reference_see_the_same(tiny):
    _, program, weights, encode = tiny
    found = observe(program, weights, encode)
    step, counts = text_step(program, encode)
    reference = ReferenceModel(program, weights, counts).queries_and_keys(step)
    slow = key_frames_module._frames(reference)
    assert set(found) == set(slow) == set(range(len(found))) and found
    for layer, frames in slow.items():
        np.testing.assert_allclose(found[layer][:2], frames[:2], rtol=0.05)
        off = np.abs(frames[2]).max()
        np.testing.assert_allclose(found[layer][2], frames[2], atol=0.05 * off)


def test_the_file_saves_the_search_and_is_checked(tiny, monkeypatch):
    looked = []
    monkeypatch.setattr(key_frames_module, "observe", lambda *a: looked.append(a) or observe(*a))
    first = key_frames(*tiny)
    path = tiny[0].path_of("key-frames")
    assert len(looked) == 1 and path.is_file()
    again = key_frames(*tiny)
    assert len(looked) == 1 and digest(again) == digest(first) != ""
    good = path.read_bytes()
    for broken in (b"", b"[]", good[:-9], good.replace(b'"version":1', b'"version":0')):
        assert broken != good
        path.write_bytes(broken)
        assert digest(key_frames(*tiny)) == digest(first) and path.read_bytes() == good
    assert len(looked) == 5


def test_without_room_for_the_file(tiny, tmp_path):
    source, *rest = tiny
    (tmp_path / "packed").write_text("a file where the folder would be")
    elsewhere = Source(source.checkpoint, source.dtype, tmp_path)
    assert digest(key_frames(elsewhere, *rest)) == digest(key_frames(source, *rest))


@pytest.mark.parametrize("executor", ["native", "reference"])
def test_only_caches_of_8_bits_have_them(tmp_path, executor):
    def engine(kv_cache_dtype):
        options = {"kv_cache_dtype": kv_cache_dtype, "cache_dir": str(tmp_path), "dtype": "f32"}
        return LLMEngine(EngineConfig(model=str(MODEL), executor=executor, **options))

    kept = tmp_path / "packed"
    engine("auto")
    assert not list(kept.glob("*.key-frames.json"))
    engine("int8")
    assert len(list(kept.glob("*.key-frames.json"))) == 1
