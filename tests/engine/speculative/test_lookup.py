"""Lookups: what is drafted followed once, and comes from the longest match."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sixfold.engine.speculative.lookup import (
    GRAMS,
    MAX_TENANTS,
    NgramLookup,
    PastOutputs,
    Pasts,
    SuffixLookup,
)

texts = st.lists(st.integers(0, 2), max_size=40)


def test_the_longest_ngram_decides_and_of_equals_the_latest():
    lookup = NgramLookup()
    lookup.extend([1, 2, 3, 4, 50, 9, 3, 4, 60, 9, 1, 2, 3, 4])
    draft = lookup.draft(3)
    assert (list(draft.tokens), draft.matched) == ([50, 9, 3], 3)
    lookup.extend([8, 3, 4])
    assert (list(lookup.draft(2).tokens), lookup.draft(2).matched) == ([8, 3], 2)


@given(texts)
def test_ngrams_are_those_of_a_search(tokens):
    lookup = NgramLookup()
    lookup.extend(tokens)
    draft = lookup.draft(1)
    for n in GRAMS:
        ends = [i for i in range(n, len(tokens)) if tokens[i - n : i] == tokens[-n:]]
        if len(tokens) >= n and ends:
            assert (draft.matched, list(draft.tokens)) == (n, [tokens[ends[-1]]])
            return
    assert not draft.tokens


@pytest.mark.parametrize("lookup", [NgramLookup(), SuffixLookup(PastOutputs())])
def test_a_loop_is_drafted_beyond_what_was_said(lookup):
    lookup.extend([7, 1, 2, 3, 1, 2, 3])
    assert list(lookup.draft(8).tokens) == [1, 2, 3, 1, 2, 3, 1, 2]


def test_past_outputs_are_drafted_from_up_to_their_end():
    past = PastOutputs()
    past.add([5, 6, 7, 8, 9])
    past.add([1, 2, 3])
    lookup = SuffixLookup(past)
    lookup.extend([4, 5, 6])
    assert list(lookup.draft(8).tokens) == [7, 8, 9]
    other = SuffixLookup(past)
    other.extend([9, 1, 2, 3])
    assert not other.draft(8).tokens


def test_tenants_are_not_drafted_from_each_other():
    pasts = Pasts()
    pasts.of("a").add([5, 6, 7, 8])
    found = {}
    for salt in ("a", "b"):
        lookup = SuffixLookup(pasts.of(salt))
        lookup.extend([5, 6])
        found[salt] = list(lookup.draft(2).tokens)
    assert found == {"a": [7, 8], "b": []}
    for i in range(MAX_TENANTS):
        pasts.of(f"tenant {i}")
    assert pasts.of("a").texts[0].text == [], "forgotten: others came after"


def test_a_longer_match_in_the_past_goes_before_a_short_one_here():
    past = PastOutputs()
    past.add([1, 2, 3, 4, 77])
    lookup = SuffixLookup(past)
    lookup.extend([3, 4, 66, 1, 2, 3, 4])
    assert list(lookup.draft(1).tokens) == [77]
    alone = SuffixLookup(PastOutputs())
    alone.extend([3, 4, 66, 1, 2, 3, 4])
    assert list(alone.draft(1).tokens) == [66]


def test_the_past_is_bounded_and_its_younger_half_stays():
    past = PastOutputs(most=50)
    for start in range(0, 1000, 10):
        past.add(range(start, start + 10))
    assert sum(len(text.text) for text in past.texts) <= 120
    lookup = SuffixLookup(past)
    lookup.extend([990, 991])
    assert list(lookup.draft(2).tokens) == [992, 993]
    lookup.extend([0, 1])
    assert not lookup.draft(2).tokens


def test_a_request_that_runs_while_the_past_is_renewed_finds_its_way():
    past = PastOutputs(most=30)
    past.add(range(10))
    lookup = SuffixLookup(past)
    lookup.extend([3, 4])
    for start in (100, 200, 300):
        past.add(range(start, start + 20))
    assert not lookup.draft(4).tokens
    lookup.extend([301, 302])
    assert list(lookup.draft(2).tokens) == [303, 304]
