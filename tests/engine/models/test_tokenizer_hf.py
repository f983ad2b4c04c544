"""Hugging Face directories: ids and texts as the tokenizers library gives them."""

import json

import pytest
import tokenizers
from hard_strings import STRINGS
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from sixfold.core.errors import ModelError, RequestError
from sixfold.engine.models.tokenizer import load_tokenizer
from tokens_support import BYTE_CHARS, SPACE


def byte_level():
    words = ["Ġ", "he", "Ġhe", "llo", "ll"]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*BYTE_CHARS, *words]))}
    merges = [("h", "e"), ("Ġ", "he"), ("l", "l"), ("ll", "o")]
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "<|im_end|>"])
    tokenizer.add_tokens(["<tool>"])
    start = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", start)])
    return tokenizer


def llama_like():
    head = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    tokens = [*head, SPACE, *"abcdehlo", "he", "ll", "llo", SPACE + "he"]
    merges = [("h", "e"), ("l", "l"), ("ll", "o"), (SPACE, "he")]
    bpe = models.BPE({t: i for i, t in enumerate(tokens)}, merges, unk_token="<unk>")
    bpe.byte_fallback = True
    tokenizer = tokenizers.Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def metaspace():
    tokenizer = llama_like()
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, "always", split=False)
    tokenizer.decoder = decoders.Metaspace(SPACE, "always", split=False)
    return tokenizer


KINDS = {"byte_level": byte_level, "llama_like": llama_like, "metaspace": metaspace}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Per kind: the library's tokenizer and ours, from the same file."""
    made = {}
    for name, make in KINDS.items():
        directory = tmp_path_factory.mktemp(name)
        library = make()
        library.save(str(directory / "tokenizer.json"))
        made[name] = (library, load_tokenizer(directory))
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_the_librarys(pairs, kind):
    library, ours = pairs[kind]
    for text in STRINGS:
        assert ours.encode(text) == library.encode(text).ids
        assert ours.encode(text, False) == library.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", ["byte_level", "llama_like"])
def test_texts_are_the_librarys(pairs, kind):
    library, ours = pairs[kind]
    for text in STRINGS:
        ids = library.encode(text).ids
        for skip in (False, True):
            expected = library.decode(ids, skip_special_tokens=skip)
            assert ours.decode(ids, skip) == expected, text


@settings(max_examples=200, deadline=None)
@given(data=st.data(), skip=st.booleans())
def test_any_byte_level_ids_decode_as_in_the_library(pairs, data, skip):
    library, ours = pairs["byte_level"]
    ids = data.draw(st.lists(st.integers(0, ours.vocab_size + 2), max_size=30))
    assert ours.decode(ids, skip) == library.decode(ids, skip_special_tokens=skip)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_llama_like_ids_decode_as_in_the_library_but_for_broken_bytes(pairs, data):
    library, ours = pairs["llama_like"]
    ids = data.draw(st.lists(st.integers(3, ours.vocab_size - 1), max_size=20))
    expected, found = library.decode(ids), ours.decode(ids)
    if "\ufffd" not in found:
        assert found == expected


def test_special_tokens_are_plain_text_on_request(pairs):
    library, ours = pairs["byte_level"]
    stop, tool = library.token_to_id("<|im_end|>"), library.token_to_id("<tool>")
    text = "he<|im_end|><tool>"
    assert ours.encode(text, False)[-2:] == [stop, tool]
    plain = ours.encode(text, False, parse_special=False)
    assert stop not in plain
    assert plain[-1] == tool
    assert ours.decode(plain) == text
    assert ours.encode(text, False)[-2:] == [stop, tool]
    assert (ours.is_special(stop), ours.is_special(tool)) == (True, False)


def write(directory, tokenizer=None, **files):
    (tokenizer or byte_level()).save(str(directory / "tokenizer.json"))
    for name, value in files.items():
        (directory / f"{name}.json").write_text(json.dumps(value))
    return load_tokenizer(directory)


def test_named_tokens_and_ends_come_from_the_small_files(tmp_path):
    tokenizer = write(
        tmp_path,
        tokenizer_config={"bos_token": {"content": "<s>"}, "chat_template": "{{ bos_token }}!"},
        special_tokens_map={"eos_token": "<|im_end|>"},
        generation_config={"eos_token_id": [7, 9]},
        config={"eos_token_id": 5, "vocab_size": 9999},
    )
    stop = tokenizer.encode("<|im_end|>", False)[0]
    assert tokenizer.bos_token_id == tokenizer.encode("<s>", False)[0]
    assert tokenizer.eos_token_ids == (stop, 7, 9)
    assert tokenizer.apply_chat_template([{"role": "user", "content": "x"}]) == "<s>!"


def test_config_json_names_the_end_where_nothing_else_does(tmp_path):
    assert write(tmp_path, config={"eos_token_id": 5}).eos_token_ids == (5,)


def test_templates_by_name_and_by_file(tmp_path):
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    assert write(tmp_path, tokenizer_config={"chat_template": named}).chat_template == "d"
    (tmp_path / "chat_template.jinja").write_text("f é")
    assert load_tokenizer(tmp_path).chat_template == "f é"


def test_no_template(tmp_path):
    tokenizer = write(tmp_path)
    assert tokenizer.chat_template is None
    with pytest.raises(RequestError, match="no chat template"):
        tokenizer.apply_chat_template([{"role": "user", "content": "x"}])


def test_a_directory_without_tokenizer_json_says_what_is_missing(tmp_path):
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read") as caught:
        load_tokenizer(tmp_path)
    assert "tokenizer.model" in caught.value.hint


def test_a_path_of_another_kind_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="neither"):
        load_tokenizer(tmp_path / "weights.bin")


def test_unknown_decoders_are_errors(tmp_path):
    for decoder in (decoders.WordPiece(), decoders.CTC(), None):
        library = byte_level()
        library.decoder = decoder
        with pytest.raises(ModelError, match="decode"):
            write(tmp_path, library)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"model": {}}', b"\xff\xfe", b"{}"])
def test_damaged_files_are_model_errors(tmp_path, data):
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        byte_level().save(str(tmp_path / "tokenizer.json"))
        for other in tmp_path.glob("*_config.json"):
            other.unlink()
        (tmp_path / name).write_bytes(data)
        if name == "tokenizer.json" or data not in (b"{}", b'{"model": {}}'):
            with pytest.raises(ModelError):
                load_tokenizer(tmp_path)
        else:
            load_tokenizer(tmp_path)


def test_huge_ids_are_refused_before_anything_is_allocated(tmp_path):
    byte_level().save(str(tmp_path / "tokenizer.json"))
    facts = json.loads((tmp_path / "tokenizer.json").read_text())
    facts["model"]["vocab"]["he"] = 2**32 - 1
    (tmp_path / "tokenizer.json").write_text(json.dumps(facts))
    with pytest.raises(ModelError, match="4294967295"):
        load_tokenizer(tmp_path)


def test_patterns_that_never_end_are_given_up(tmp_path):
    library = byte_level()
    library.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex("(a+)+c"), "isolated")
    tokenizer = write(tmp_path, library)
    assert tokenizer.decode(tokenizer.encode("aac", False)) == "aac"
    with pytest.raises(RequestError, match="cannot be encoded"):
        tokenizer.encode("a" * 40)


def test_lower_bounds_are_given_only_without_a_normaliser(pairs):
    assert pairs["byte_level"][1].min_tokens("x" * 100) > 0
    assert pairs["llama_like"][1].min_tokens("x" * 100) == 0
