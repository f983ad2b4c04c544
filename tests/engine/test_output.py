"""Incremental output: equal to decode as a whole, whole characters, stop rules exactly."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sixfold.core.request import SamplingParams
from sixfold.engine.output import OutputState, StopMatcher
from tokens_support import needs, real_tokenizer, tiny_bpe, tiny_spm

EOS = 999


class Letters:
    """Token i is one string of a list; EOS is special and reads <eos>."""

    strip_leading_space = False

    def __init__(self, *texts: str | bytes) -> None:
        self.texts = [t.encode() if isinstance(t, str) else t for t in texts]

    def token_bytes(self, token_id):
        return b"<eos>" if token_id == EOS else self.texts[token_id]

    def is_special(self, token_id):
        return token_id == EOS


def run(texts, ids=None, eos=(EOS,), **params):
    """Push ids (default: all texts in order) until the finish: pieces, reason, stop reason."""
    params.setdefault("max_tokens", None)
    state = OutputState(Letters(*texts), SamplingParams(**params), eos)
    pieces = []
    for token_id in range(len(texts)) if ids is None else ids:
        text, reason, stop_reason = state.push(token_id)
        pieces.append(text)
        if reason is not None:
            assert state.flush() == ""
            return pieces, reason, stop_reason
    pieces.append(state.flush())
    return pieces, None, None


def test_a_character_cut_in_four_appears_once_it_is_whole():
    llama = "🦙".encode()
    assert run([b"a" + llama[:1], llama[1:3], llama[3:] + b"b"])[0] == ["a", "", "🦙b", ""]


def test_broken_bytes_become_replacement_characters_at_the_end():
    assert run([b"a", "é".encode()[:1]])[0] == ["a", "", "\ufffd"]
    assert run([b"\xff", b"b"])[0] == ["\ufffd", "b", ""]
    assert run([b"a\xe2\x82"], max_tokens=1) == (["a\ufffd"], "length", None)


def test_stop_string_across_tokens_is_never_shown():
    pieces, reason, stop = run(["Hello", " S", "TO", "P now"], stop=[" STOP"])
    assert (pieces, reason, stop) == (["Hello", "", "", ""], "stop", " STOP")


def test_stop_string_can_be_included():
    pieces, _, _ = run(["ab", "cd", "ef"], stop=["bcd"], include_stop_str_in_output=True)
    assert "".join(pieces) == "abcd"


def test_held_text_is_shown_once_it_is_no_stop_string():
    assert run(["x<", "/", "b>"], stop=["</a>"])[0] == ["x", "", "</b>", ""]
    assert run(["x<", "/"], stop=["</a>"])[0] == ["x", "", "</"]


@pytest.mark.parametrize(
    ("stops", "text", "shown", "stop"),
    [
        (["abcd", "bc"], "xabcd", "xa", "bc"),  # the first to be complete
        (["bc", "abc"], "xabcd", "x", "abc"),  # completed by one character: the longest
        (["aab"], "aaab", "a", "aab"),
        (["ab", "abc"], "zabc", "z", "ab"),
        (["\n\n", "\n"], "a\n\nb", "a", "\n"),
        (["😀"], "a😀b", "a", "😀"),
        (["aaaa"], "aaabaaaab", "aaab", "aaaa"),
        (["<|e|>", "|>"], "<|e|>", "", "<|e|>"),
    ],
)
def test_several_stop_strings(stops, text, shown, stop):
    for pieces in ([text], list(text), [text[:2], text[2:]]):
        out, reason, found = run(pieces, stop=stops)
        assert ("".join(out), reason, found) == (shown, "stop", stop)


def test_eos_ends_without_text_or_reason():
    assert run(["a", "b"], ids=[0, EOS, 1]) == (["a", ""], "stop", None)


def test_eos_shows_what_was_held():
    assert run(["a<"], ids=[0, EOS], stop=["<b"]) == (["a", "<"], "stop", None)


def test_ignore_eos_goes_on_and_hides_the_token():
    pieces, reason, _ = run(["a", "b"], ids=[0, EOS, 1], ignore_eos=True, max_tokens=3)
    assert (pieces, reason) == (["a", "", "b"], "length")


def test_stop_token_ids_give_their_id_also_when_eos_is_ignored():
    assert run(["a", "b"], stop_token_ids=[1]) == (["a", ""], "stop", 1)
    assert run(["a"], ids=[0, EOS], ignore_eos=True, stop_token_ids=[EOS])[1:] == ("stop", EOS)


def test_stop_token_text_is_shown_only_on_request():
    assert run(["a", "b"], stop_token_ids=[1], include_stop_str_in_output=True)[0] == ["a", "b"]
    shown = {"include_stop_str_in_output": True, "skip_special_tokens": False}
    assert run(["a"], ids=[0, EOS], **shown)[0] == ["a", "<eos>"]


def test_special_tokens_are_shown_on_request():
    args = {"ids": [0, EOS, 1], "ignore_eos": True}
    assert run(["a", "b"], **args, skip_special_tokens=False)[0] == ["a", "<eos>", "b", ""]


def test_min_tokens_suppresses_every_kind_of_stop():
    pieces, reason, _ = run(["a", "b"], ids=[0, EOS, 1, EOS], min_tokens=2)
    assert (pieces, reason) == (["a", "", "b", ""], "stop")
    assert run(["a", "a", "a"], stop=["a"], min_tokens=2) == (["a", "a", ""], "stop", "a")
    assert run(["a", "b"], ids=[0, 1, 1], stop_token_ids=[1], min_tokens=2)[0] == ["a", "b", ""]


def test_stop_string_that_begins_within_min_tokens_counts_when_it_ends_after_them():
    assert run(["xS", "T", "OP"], stop=["STOP"], min_tokens=2) == (["x", "", ""], "stop", "STOP")


def test_suppressed_matches_lose_no_text():
    pieces, reason, _ = run(["aXbXc", "d"], stop=["X", "cd"], min_tokens=1)
    assert ("".join(pieces), reason) == ("aXbX", "stop")


def test_length_comes_after_stop():
    assert run(["a", "b"], stop=["b"], max_tokens=2) == (["a", ""], "stop", "b")
    assert run(["a"], ids=[0, EOS], max_tokens=2) == (["a", ""], "stop", None)
    assert run(["a", "b<"], stop=["<x"], max_tokens=2) == (["a", "b<"], "length", None)


def test_flush_is_idempotent_and_ends_the_request():
    state = OutputState(Letters("a<"), SamplingParams(stop=["<b"]), ())
    assert state.push(0) == ("a", None, None)
    assert state.flush() == "<"
    assert state.flush() == ""
    with pytest.raises(AssertionError):
        state.push(0)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_stop_matcher_agrees_with_a_search_at_every_character(data):
    stops = data.draw(st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=4))
    text = data.draw(st.text("abc", max_size=30))
    expected = None
    for end in range(1, len(text) + 1):
        ended = [s for s in stops if text[:end].endswith(s)]
        if ended:
            expected = (end, max(ended, key=len))
            break
    state, position, found, matcher = 0, 0, None, StopMatcher(tuple(stops))
    for char in text:
        state, read, found = matcher.feed(state, char)
        position += read
        if found:
            break
        seen = text[:position]
        held = max(
            (k for s in stops for k in range(len(s)) if seen.endswith(s[:k])),
            default=0,
        )
        assert matcher.depth[state] == held
    assert expected == ((position, found) if found else None)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_output_does_not_depend_on_how_text_is_cut(data):
    text = data.draw(st.text("ab<é🦙", max_size=24)).encode()
    stops = data.draw(st.lists(st.text("ab<é", min_size=1, max_size=4), max_size=3))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    edges = [0, *cuts, len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    whole, reason, stop = run([text], stop=stops)
    cut = run(pieces, stop=stops)
    assert ("".join(cut[0]), *cut[1:]) == ("".join(whole), reason, stop)


def concatenated(tokenizer, ids, skip, at_start):
    params = SamplingParams(max_tokens=None, skip_special_tokens=skip)
    state = OutputState(tokenizer, params, (), at_start)
    pieces = [state.push(token_id)[0] for token_id in ids]
    assert not any("\ud800" <= char <= "\udfff" for piece in pieces for char in piece)
    return "".join([*pieces, state.flush()])


@pytest.mark.parametrize("make", [tiny_bpe, tiny_spm, lambda: tiny_spm(False)])
@settings(max_examples=200, deadline=None)
@given(data=st.data(), skip=st.booleans())
def test_pieces_equal_decode(make, data, skip):
    tokenizer = make()
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 3), max_size=40))
    assert concatenated(tokenizer, ids, skip, True) == tokenizer.decode(ids, skip)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_an_output_continues_its_prompt(data):
    tokenizer = tiny_spm()
    ids = data.draw(st.lists(st.integers(260, tokenizer.vocab_size - 1), min_size=2, max_size=20))
    cut = data.draw(st.integers(1, len(ids) - 1))
    prompt = tokenizer.decode(ids[:cut])
    assert prompt + concatenated(tokenizer, ids[cut:], True, False) == tokenizer.decode(ids)


@needs("smollm2-135m")
def test_pieces_equal_decode_for_smollm2():
    check_real(real_tokenizer("smollm2-135m"))


@needs("gemma3-270m")
def test_pieces_equal_decode_for_gemma3():
    check_real(real_tokenizer("gemma3-270m"))


def check_real(tokenizer):
    rng = random.Random(6)
    for _ in range(50):
        ids = [rng.randrange(tokenizer.vocab_size) for _ in range(200)]
        for skip in (False, True):
            assert concatenated(tokenizer, ids, skip, True) == tokenizer.decode(ids, skip)
