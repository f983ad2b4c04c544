"""GGUF tokenizers against llama.cpp's ids, and on damaged metadata."""

import hashlib
import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hard_strings import STRINGS
from hypothesis import given, settings
from hypothesis import strategies as st

from sixfold.core.errors import ModelError, RequestError
from sixfold.engine.models import tokenizer_gguf, tokenizer_pre, tokenizer_text
from sixfold.engine.models.tokenizer import load_tokenizer, tokenizer_from_metadata
from tokens_support import (
    BYTE_CHARS,
    MERGES,
    bpe_metadata,
    model_file,
    needs,
    real_tokenizer,
    spm_metadata,
    tiny_bpe,
    tiny_spm,
)

GOLDEN = Path(__file__).parents[2] / "golden"
SPLITS = json.loads((Path(__file__).parent / "pre_tokenizer_splits.json").read_text())


def check_golden(name, tokenizer, cleans=False):
    """`cleans`: llama.cpp takes spaces before punctuation away when decoding; nobody else does."""
    golden = json.loads((GOLDEN / f"tokenizer_{name}.json").read_text())
    for case in golden["cases"]:
        text, ids = case["text"], case["ids"]
        assert tokenizer.encode(text, False, False) == ids, text
        assert tokenizer.encode(text, False, True) == case.get("special", ids), text
        full = case.get("with_special", golden["prefix"] + ids + golden["suffix"])
        assert tokenizer.encode(text, True, False) == full, text
        exact = cleans or "decoded" not in case
        decoded = text.encode() if exact else bytes.fromhex(case["decoded"])
        assert tokenizer.decode(ids, False) == decoded.decode("utf-8", "replace"), text
        data = b"".join(map(tokenizer.token_bytes, ids))
        assert data.removeprefix(b" " * tokenizer.strip_leading_space) == decoded, text


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-spm"])
def test_tiny_files_equal_llama_cpp(name):
    tokenizer = load_tokenizer(GOLDEN / "tiny_gguf" / f"{name}.gguf")
    check_golden(name, tokenizer, cleans=name == "tiny-llama")


@needs("smollm2-135m")
def test_smollm2_equals_llama_cpp():
    tokenizer = real_tokenizer("smollm2-135m")
    check_golden("smollm2", tokenizer)
    assert tokenizer.vocab_size == 49152
    assert (tokenizer.bos_token_id, tokenizer.eos_token_ids) == (1, (2, 0))


@needs("gemma3-270m")
def test_gemma3_equals_llama_cpp():
    tokenizer = real_tokenizer("gemma3-270m")
    check_golden("gemma3", tokenizer)
    assert tokenizer.vocab_size == 262144
    assert (tokenizer.bos_token_id, tokenizer.eos_token_ids) == (2, (1, 106))


@needs("smollm2-135m")
def test_a_directory_with_one_gguf_file_is_that_file():
    path = model_file("smollm2-135m")
    assert load_tokenizer(path.parent).vocab_size == load_tokenizer(path).vocab_size


@pytest.mark.parametrize("pair", sorted(tokenizer_pre.BYTE_LEVEL), ids="/".join)
def test_texts_are_cut_as_when_the_pair_was_verified(pair):
    """The lengths were recorded when all ids on the model's own vocabulary equalled llama.cpp's."""
    metadata = bpe_metadata(pair[1], model=pair[0])
    encoder = tokenizer_from_metadata(metadata)._backend._encoder
    cut = encoder._tokenizer.pre_tokenizer.pre_tokenize_str
    digest = hashlib.sha256()
    for text in STRINGS:
        digest.update(json.dumps([b - a for _, (a, b) in cut(text)]).encode())
    assert digest.hexdigest() == SPLITS["digests"]["/".join(pair)]
    for text, lengths in SPLITS["examples"]["/".join(pair)].items():
        assert [b - a for _, (a, b) in cut(text)] == lengths, text


def test_byte_level_bpe_merges_in_rank_order():
    tokenizer = tiny_bpe()
    tokens = tokenizer._backend._tokens
    ids = tokenizer.encode("the hello in a é\u0000\n\n", False)
    expected = ["t", "he", "Ġ", "hello", "Ġ", "in", "Ġa", "Ġ", "Ã©", BYTE_CHARS[0], "ĊĊ"]
    assert [tokens[i] for i in ids] == expected
    assert tokenizer.decode(ids) == "the hello in a é\u0000\n\n"


def test_ignore_merges_takes_whole_tokens():
    metadata = bpe_metadata("llama-bpe", merges=["Ġ t"])
    tokenizer = tokenizer_from_metadata(metadata)
    assert len(tokenizer.encode("hello", False)) == 1
    assert len(tokenizer_from_metadata(bpe_metadata(merges=["Ġ t"])).encode("hello", False)) == 5


def test_every_byte_has_its_token_bytes():
    tokenizer = tiny_bpe()
    assert [tokenizer.token_bytes(i) for i in range(256)] == [bytes([b]) for b in range(256)]
    spm = tiny_spm()
    assert [spm.token_bytes(3 + b) for b in range(256)] == [bytes([b]) for b in range(256)]


def test_special_tokens_are_parsed_or_plain():
    tokenizer = tiny_bpe()
    start, stop, user = (tokenizer.vocab_size - k for k in (3, 2, 1))
    text = "a<|start|>x<|stop|><user>b"
    assert tokenizer.encode(text, False) == [97, start, stop, user, 98]
    plain = tokenizer.encode(text, False, parse_special=False)
    assert start not in plain
    assert stop not in plain
    assert user in plain  # user-defined tokens are cut out in any case, as in llama.cpp
    assert tokenizer.decode(plain) == text
    assert tokenizer.decode([97, stop, user, 98]) == "a<user>b"
    assert tokenizer.decode([97, stop, user, 98], skip_special_tokens=False) == "a<|stop|><user>b"
    assert [tokenizer.is_special(i) for i in (97, start, stop, user)] == [False, True, True, False]


def test_longer_special_tokens_win_over_ones_further_left():
    metadata = bpe_metadata()
    tokens = [*metadata["tokenizer.ggml.tokens"], "ab", "bcd"]
    kinds = [*metadata["tokenizer.ggml.token_type"], 3, 3]
    tokenizer = tokenizer_from_metadata(bpe_metadata(tokens=tokens, token_type=kinds))
    assert tokenizer.encode("abcd", False) == [97, len(tokens) - 1]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("ab<", min_size=1, max_size=5), max_size=30, unique=True), st.text("ab<"))
def test_splitting_equals_one_pass_per_token(specials, text):
    ids = {token: i for i, token in enumerate(specials)}
    pieces = [text] if text else []
    for token in sorted(specials, key=lambda t: (-len(t), t)):
        after = []
        for piece in pieces:
            if isinstance(piece, int):
                after.append(piece)
                continue
            parts = piece.split(token)
            for index, part in enumerate(parts):
                after += ([ids[token]] if index else []) + ([part] if part else [])
        pieces = after
    assert tokenizer_text.SpecialSplitter(ids).split(text) == pieces


def test_flags_put_tokens_around_texts():
    flags = {"add_bos_token": True, "add_eos_token": True}
    tokenizer = tokenizer_from_metadata(bpe_metadata(**flags))
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_ids[0]
    assert tokenizer.encode("a") == [bos, 97, eos]
    assert tokenizer.encode("") == [bos, eos]
    assert tokenizer.encode("a", add_special_tokens=False) == [97]
    assert tiny_bpe().encode("a") == [97]
    assert tiny_spm().encode("")[0] == 1


def test_well_known_texts_end_generation_unless_they_are_normal_tokens():
    metadata = bpe_metadata()
    tokens = [*metadata["tokenizer.ggml.tokens"], "<|eot_id|>", "</s>"]
    kinds = [*metadata["tokenizer.ggml.token_type"], 3, 1]
    tokenizer = tokenizer_from_metadata(bpe_metadata(tokens=tokens, token_type=kinds))
    assert tokenizer.eos_token_ids == (len(tokens) - 4, len(tokens) - 2)
    assert tokenizer.decode([len(tokens) - 1]) == "</s>"
    assert tokenizer.encode("</s>", False) == [len(tokens) - 1]


def test_sentence_piece_puts_a_space_first_where_the_model_wants_it():
    with_space, without = tiny_spm(True), tiny_spm(False)
    tokens = with_space._backend._tokens
    assert [tokens[i] for i in with_space.encode("hello")] == ["<s>", "\u2581hello"]
    assert [tokens[i] for i in without.encode("hello")] == ["<s>", "hello"]
    assert with_space.decode(with_space.encode("hello")) == "hello"
    assert with_space.decode(with_space.encode(" hello")) == " hello"
    assert without.decode(without.encode(" hello")) == " hello"
    assert [tokens[i] for i in with_space.encode("</s>he", False)] == ["</s>", "\u2581he"]


def test_characters_without_a_token_become_bytes():
    tokenizer = tiny_spm(False)
    assert tokenizer.encode("\n🦙", False) == [3 + b for b in "\n🦙".encode()]
    assert tokenizer.encode("é", False) != [3 + b for b in "é".encode()]
    assert tokenizer.decode(tokenizer.encode("\n🦙é")) == "\n🦙é"


@pytest.mark.parametrize("tokenizer", [tiny_bpe(), tiny_spm(), tiny_spm(False)])
@settings(max_examples=150, deadline=None)
@given(text=st.text())
def test_texts_come_back(tokenizer, text):
    ids = tokenizer.encode(text, parse_special=False)
    assert tokenizer.decode(ids) == text
    assert tokenizer.min_tokens(text) <= len(ids)


@pytest.mark.parametrize("pair", [("gpt2", "tekken"), ("gpt2", ""), ("bert", "x"), ("", "")])
def test_an_unknown_pair_is_an_error_that_lists_the_known_ones(pair):
    metadata = bpe_metadata(pair[1], model=pair[0])
    with pytest.raises(ModelError, match=r"known pairs: .*gpt2/smollm.*llama/default") as caught:
        tokenizer_from_metadata(metadata)
    assert f"{pair[0] or '(none)'}/{pair[1] or '(none)'}" in caught.value.message


BROKEN = [
    {"tokens": []}, {"tokens": None}, {"tokens": "abc"}, {"tokens": [1, 2]}, {"tokens": ["a", "a"]},
    {"tokens": ["x" * 5000]}, {"token_type": [1]}, {"token_type": 3}, {"merges": []},
    {"merges": ["ab"]}, {"merges": ["x y"]}, {"merges": [None]}, {"merges": ["h e", 5]},
    {"merges": ["no such"]}, {"tokens": ["a", "b"]}, {"add_bos_token": True, "tokens": ["a"]},
]  # fmt: skip


@pytest.mark.parametrize("change", BROKEN, ids=range(len(BROKEN)))
def test_damaged_byte_level_metadata_is_a_model_error(change):
    with pytest.raises(ModelError):
        tokenizer_from_metadata(bpe_metadata(**change))


@pytest.mark.parametrize("scores", [[0.0], [float("nan")] * 284, ["x"] * 284, [[0]] * 284, "abc"])
def test_damaged_scores_are_a_model_error(scores):
    count = len(spm_metadata()["tokenizer.ggml.tokens"])
    scores = scores[:1] * count if len(scores) > 3 else scores
    with pytest.raises(ModelError):
        tokenizer_from_metadata(spm_metadata(scores=scores))


def test_arrays_are_taken_as_numpy_gives_them():
    metadata = spm_metadata()
    for key, kind in (("scores", np.float32), ("token_type", np.int32)):
        metadata[f"tokenizer.ggml.{key}"] = np.array(metadata[f"tokenizer.ggml.{key}"], kind)
    text = "hello abc \n"
    assert tokenizer_from_metadata(metadata).encode(text) == tiny_spm().encode(text)


def test_named_ids_beyond_the_vocabulary_are_ignored():
    tokenizer = tokenizer_from_metadata(bpe_metadata(bos_token_id=10**6, eos_token_id=-1))
    assert tokenizer.bos_token_id == 11
    assert tokenizer.eos_token_ids == (11,)


def test_empty_tokens_get_a_name_as_in_llama_cpp():
    metadata = bpe_metadata()
    tokens = [*metadata["tokenizer.ggml.tokens"], "", ""]
    tokenizer = tokenizer_from_metadata(bpe_metadata(tokens=tokens, token_type=[1] * len(tokens)))
    assert tokenizer.decode([len(tokens) - 2]) == f"[EMPTY_{len(tokens) - 2}]"


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\ud83d", "ok\udc80"])
def test_lone_surrogates_are_request_errors(text):
    for tokenizer in (tiny_bpe(), tiny_spm()):
        with pytest.raises(RequestError, match="surrogate"):
            tokenizer.encode(text)


@pytest.mark.parametrize("text", [None, 1, b"x", ["x"]])
def test_what_is_no_string_is_a_request_error(text):
    with pytest.raises(RequestError):
        tiny_bpe().encode(text)


@pytest.mark.parametrize("ids", [[-1], ["x"], [None], [1.5]])
def test_what_is_no_id_is_a_request_error(ids):
    with pytest.raises(RequestError):
        tiny_bpe().decode(ids)


def test_ids_beyond_the_vocabulary_decode_to_nothing():
    tokenizer = tiny_bpe()
    assert tokenizer.decode([97, tokenizer.vocab_size, 2**40, 98]) == "ab"
    assert tokenizer.token_bytes(2**40) == b""


def test_texts_beyond_the_cap_are_refused(monkeypatch):
    monkeypatch.setattr(tokenizer_text, "MAX_TEXT_CHARS", 10)
    assert tiny_bpe().encode("a" * 10, False) == [97] * 10
    with pytest.raises(RequestError, match="11 characters"):
        tiny_bpe().encode("a" * 11)


@pytest.mark.parametrize(
    "text", ["a" * 200_000, " " * 200_000, "<|stop|>" * 25_000, "a b" * 70_000]
)
def test_long_texts_of_one_kind_come_back(text):
    for tokenizer in (tiny_bpe(), tiny_spm()):
        assert tokenizer.decode(tokenizer.encode(text, False), skip_special_tokens=False) == text


def test_tables_agree():
    assert set(tokenizer_pre.BYTE_LEVEL).isdisjoint(tokenizer_pre.SENTENCE_PIECE)
    assert set(SPLITS["digests"]) == {"/".join(pair) for pair in tokenizer_pre.BYTE_LEVEL}
    assert len(MERGES) > 10
    assert tokenizer_gguf.CONTROL == 3


def test_threads_share_a_tokenizer():
    tokenizer = tokenizer_from_metadata(spm_metadata())
    rng = random.Random(1)
    texts = ["".join(rng.choices("abc hello", k=50)) for _ in range(200)]
    expected = [tokenizer_from_metadata(spm_metadata()).encode(text) for text in texts[:5]]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(tokenizer.encode, texts))
    assert found[:5] == expected
