"""Fingerprints against brute force: every prefix of whole blocks, kept in a set."""

import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sixfold.instrument.loadgen.plan import Session, Turn
from sixfold.instrument.workloads.content import TOKENS_PER_WORD
from sixfold.instrument.workloads.fingerprint import Distribution, distribution, fingerprint

IDS = st.lists(st.integers(0, 2), min_size=1, max_size=9).map(tuple)
WORDS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=9).map(" ".join)
LIMIT = st.integers(1, 9)


def sessions_of(turn):
    return st.lists(
        st.builds(
            lambda turns: Session(turns=tuple(turns)), st.lists(turn, min_size=1, max_size=4)
        ),
        min_size=1,
        max_size=6,
    )


BY_ID = sessions_of(st.builds(lambda i, n: Turn(token_ids=i, max_tokens=n), IDS, LIMIT))
BY_WORD = sessions_of(st.builds(lambda t, n: Turn(text=t, max_tokens=n), WORDS, LIMIT))


def brute_force(sessions: list[Session], block: int) -> tuple[list[int], int]:
    """Lengths of prompts and units that hit, by all block prefixes ever computed."""
    seen: set[tuple] = set()
    lengths, hits = [], 0
    for number, session in enumerate(sessions):
        prompt = tuple(session.system.split())
        for i, turn in enumerate(session.turns):
            prompt += turn.token_ids or tuple(turn.text.split())
            whole = range(block, len(prompt) + 1, block)
            hits += block * sum(prompt[:end] in seen for end in whole)
            lengths.append(len(prompt))
            seen |= {prompt[:end] for end in whole}
            words = 1 if turn.token_ids else TOKENS_PER_WORD
            answer = max(1, round(turn.max_tokens / words))
            prompt += tuple(("answer", number, i, j) for j in range(answer))
            seen |= {prompt[:end] for end in range(block, len(prompt) + 1, block)}
    return lengths, hits


@settings(max_examples=200)
@given(BY_ID | BY_WORD, st.integers(1, 5), st.booleans())
def test_reuse_and_lengths_are_those_of_brute_force(sessions, block, system):
    if system:
        sessions = [Session(turns=s.turns, system="be brief please") for s in sessions]
    lengths, hits = brute_force(sessions, block)
    found = fingerprint(sessions, block=block)
    assert found.input == distribution(lengths)
    assert found.prefix_reuse == pytest.approx(hits / sum(lengths))
    assert found.requests == len(lengths) and found.sessions == len(sessions)


@given(BY_ID)
def test_unique_prompts_by_brute_force(sessions):
    starts = {
        tuple(t.token_ids for t in s.turns[: i + 1]) for s in sessions for i in range(len(s.turns))
    }
    assert fingerprint(sessions).unique_prompts == len(starts)


@given(st.lists(st.integers(1, 1000), min_size=1))
def test_percentiles_are_of_the_values_and_cover_their_share(values):
    found = distribution(values)
    for share, value in ((50, found.p50), (90, found.p90), (99, found.p99), (100, found.max)):
        assert value in values
        assert 100 * sum(v <= value for v in values) >= share * len(values)
        assert 100 * sum(v < value for v in values) < share * len(values)
    assert found.mean == pytest.approx(statistics.fmean(values))
    assert distribution([]) == Distribution()


def plain(count: int) -> list[Session]:
    return [Session(turns=(Turn(text=f"w{i} x", max_tokens=3),)) for i in range(count)]


def test_arrivals():
    even = fingerprint(plain(5), [8.0, 0.0, 2.0, 4.0, 6.0])
    assert (even.rate, even.burstiness, even.span) == (0.5, 0.0, 8.0)
    bursty = fingerprint(plain(3), [0.0, 0.0, 4.0])
    assert (bursty.rate, bursty.burstiness) == (0.5, 1.0)
    for none in (fingerprint(plain(2)), fingerprint(plain(1), [3.0]), fingerprint([])):
        assert (none.rate, none.burstiness, none.span) == (0.0, 0.0, 0.0)


def test_the_id_is_stable_and_of_all_that_is_sent():
    turn = Turn(text="hello there", max_tokens=3)
    base = Session(turns=(turn,))
    others = [
        Session(turns=(turn, turn)),
        Session(turns=(turn,), system="x"),
        Session(turns=(turn,), at=0.0),
        Session(turns=(turn,), slo_class="x"),
        Session(turns=(Turn(text="hello there", max_tokens=4),)),
        Session(turns=(Turn(text="hello there", max_tokens=3, think_time=1.0),)),
        Session(turns=(Turn(token_ids=(1, 2), max_tokens=3),)),
    ]
    ids = [fingerprint([s]).id for s in [base, *others]] + [fingerprint([base], [0.0]).id]
    assert len(set(ids)) == len(ids)
    assert ids[0] == fingerprint([base]).id == "b0cfd48218abb099"


def test_what_it_prints():
    found = fingerprint(plain(4), [0.0, 1.0, 2.0, 3.0])
    assert found.unit == "words"
    assert "\n" not in found.line() and found.id in found.line()
    assert 3 <= len(found.lines().splitlines()) <= 6
    assert fingerprint([Session(turns=(Turn(token_ids=(1,), max_tokens=1),))]).unit == "tokens"
