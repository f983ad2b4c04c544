"""Score merging against the rule written down naively, and where texts may be cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sixfold.core.errors import ModelError
from sixfold.engine.models.tokenizer_spm import SPACE, SentencePiece

LETTERS = ["<unk>", SPACE, "a", "b", "c"]


def naive(text, ids, scores):
    """Merge the best pair, leftmost on a tie, until none is left: quadratic and obvious."""
    symbols = list(text)
    while True:
        best = None
        for left in range(len(symbols) - 1):
            token_id = ids.get(symbols[left] + symbols[left + 1])
            if token_id is not None and (best is None or scores[token_id] > best[0]):
                best = (scores[token_id], left)
        if best is None:
            return [ids.get(symbol, 0) for symbol in symbols]
        left = best[1]
        symbols[left : left + 2] = [symbols[left] + symbols[left + 1]]


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_merging_equals_the_naive_rule(data):
    token = st.text(SPACE + "abc", min_size=2, max_size=5)
    tokens = LETTERS + data.draw(st.lists(token, max_size=14, unique=True))
    scores = [float(data.draw(st.integers(-4, 0))) for _ in tokens]
    ids = {t: i for i, t in enumerate(tokens)}
    pieces = SentencePiece(tokens, ids, scores)
    for _ in range(3):
        text = data.draw(st.text(" abcd", max_size=30))
        assert pieces.encode(text) == naive(text.replace(" ", SPACE), ids, scores), text


def test_equal_scores_are_merged_from_the_left():
    tokens = [*LETTERS, "aa", "aaa"]
    pieces = SentencePiece(tokens, {t: i for i, t in enumerate(tokens)}, [0.0] * len(tokens))
    assert [tokens[i] for i in pieces.encode("aaaaa")] == ["aaa", "aa"]


def test_tokens_that_reach_across_a_space_are_found():
    tokens = [*LETTERS, "a" + SPACE, "a" + SPACE + "b"]
    pieces = SentencePiece(tokens, {t: i for i, t in enumerate(tokens)}, [0.0] * len(tokens))
    assert [tokens[i] for i in pieces.encode("a bc a")] == ["a" + SPACE + "b", "c", SPACE, "a"]


def test_remembered_pieces_are_not_shared_with_callers():
    tokens = list(LETTERS)
    pieces = SentencePiece(tokens, {t: i for i, t in enumerate(tokens)}, [0.0] * len(tokens))
    first = pieces.encode("ab")
    first.append(99)
    assert pieces.encode("ab") == [2, 3]


def test_bytes_without_any_token_are_dropped():
    tokens = ["a"]
    pieces = SentencePiece(tokens, {"a": 0}, [0.0])
    assert pieces.encode("aé\na") == [0, 0]


@pytest.mark.parametrize("scores", [[0.0], [float("inf")] * 5, [[0.0]] * 5])
def test_scores_must_be_one_finite_number_per_token(scores):
    with pytest.raises(ModelError):
        SentencePiece(LETTERS, {t: i for i, t in enumerate(LETTERS)}, scores)
