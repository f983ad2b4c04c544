"""Synthetic workloads repeat by seed, keep their bounds, and share what they say."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sixfold.core.errors import ConfigError
from sixfold.instrument.loadgen.plan import Session
from sixfold.instrument.workloads import synthetic
from sixfold.instrument.workloads.content import (
    Content,
    Length,
    draw_length,
    fixed,
    parse_length,
    stream,
    units,
)
from sixfold.instrument.workloads.words import WORDS

CONTENTS = st.sampled_from([Content(), Content(text=True), Content(low=5, high=300)])
SMALL = st.integers(1, 40)
LENGTHS = st.one_of(
    SMALL.map(fixed),
    st.tuples(SMALL, SMALL).map(lambda p: Length("uniform", min(p), max(p))),
    st.tuples(SMALL, st.floats(0, 3)).map(lambda p: Length("lognormal", *p)),
)
BUILDERS = [
    (synthetic.random_lengths, synthetic.RandomConfig),
    (synthetic.prefix_tree, synthetic.TreeConfig),
    (synthetic.chat, synthetic.ChatConfig),
    (synthetic.rag, synthetic.RagConfig),
    (synthetic.code, synthetic.CodeConfig),
    (synthetic.agentic, synthetic.AgenticConfig),
]


def first_prompt(session: Session) -> tuple:
    turn = session.turns[0]
    return turn.token_ids or tuple((session.system + " " + turn.text).split())


@pytest.mark.parametrize(("builder", "config"), BUILDERS)
@pytest.mark.parametrize("text", [False, True])
def test_a_seed_repeats_its_workload_and_shares_no_block_with_another(builder, config, text):
    made = config(count=6, content=Content(text=text))
    once, again, other = builder(made, 1), builder(made, 1), builder(made, 2)
    assert once == again
    starts = {first_prompt(s)[:16] for s in once}
    assert not starts & {first_prompt(s)[:16] for s in other}


@pytest.mark.parametrize(("builder", "config"), BUILDERS)
def test_exactly_one_kind_of_content_is_set_and_ids_are_in_range(builder, config):
    for session in builder(config(count=3, content=Content(low=7, high=400)), 0):
        assert not session.system
        for turn in session.turns:
            assert not turn.text and turn.token_ids and turn.max_tokens >= 1
            assert all(7 <= i < 400 for i in turn.token_ids)
    for session in builder(config(count=3, content=Content(text=True)), 0):
        for turn in session.turns:
            assert turn.text and not turn.token_ids
            assert set(turn.text.split()) <= set(WORDS)


@given(LENGTHS, st.integers(0, 99))
def test_lengths_keep_their_bounds_and_their_text_form(length, seed):
    drawn = draw_length(length, stream(seed))
    assert drawn >= 1
    if length.kind == "fixed":
        assert drawn == length.a
    if length.kind == "uniform":
        assert length.a <= drawn <= length.b
        assert parse_length(str(length)) == length


def test_lognormal_has_the_mean_and_variation_asked_for():
    rng = stream(0)
    drawn = [draw_length(Length("lognormal", 1000, 0.5), rng) for _ in range(4000)]
    mean = sum(drawn) / len(drawn)
    cv = (sum((d - mean) ** 2 for d in drawn) / len(drawn)) ** 0.5 / mean
    assert mean == pytest.approx(1000, rel=0.05)
    assert cv == pytest.approx(0.5, rel=0.1)


@given(st.integers(1, 500), st.floats(0, 0.99), st.integers(0, 9))
def test_the_range_ratio_spreads_a_fixed_length_around_it(length, ratio, seed):
    drawn = draw_length(fixed(length), stream(seed), ratio)
    assert max(1, length * (1 - ratio) - 1) <= drawn <= length * (1 + ratio) + 1


@settings(max_examples=30)
@given(LENGTHS, LENGTHS, st.integers(0, 30), CONTENTS, st.integers(0, 9))
def test_random_prompts_share_the_prefix_and_nothing_else(size, output, prefix, content, seed):
    config = synthetic.RandomConfig(
        count=5, input=size, output=output, prefix=prefix, content=content
    )
    prompts = [first_prompt(s) for s in synthetic.random_lengths(config, seed)]
    shared = units(content, prefix)
    assert len({p[:shared] for p in prompts}) == 1
    assert all(len(p) > shared for p in prompts)


@settings(max_examples=30)
@given(st.integers(1, 3), st.integers(1, 3), CONTENTS, st.integers(0, 9))
def test_the_tree_has_as_many_nodes_as_its_branching_allows(depth, branching, content, seed):
    config = synthetic.TreeConfig(
        count=40, depth=depth, branching=branching, lengths=(30, 20), content=content
    )
    prompts = [first_prompt(s) for s in synthetic.prefix_tree(config, seed)]
    end = 0
    for level in range(depth):
        end += units(content, 30 if level == 0 else 20)
        assert len({p[:end] for p in prompts}) <= branching ** (level + 1)
    assert len(set(prompts)) == len(prompts)


def test_outside_the_share_of_the_tree_nothing_is_shared():
    config = synthetic.TreeConfig(count=50, branching=1, share=0.5)
    starts = [first_prompt(s)[:32] for s in synthetic.prefix_tree(config, 0)]
    alike = max(starts.count(start) for start in starts)
    assert 15 <= alike <= 35 and len(set(starts)) == 50 - alike + 1


def test_chats_share_the_system_prompt_and_users_think_between_turns():
    config = synthetic.ChatConfig(count=3, turns=fixed(5), system=20, think=2.0)
    sessions = synthetic.chat(config, 0)
    assert len({s.turns[0].token_ids[:20] for s in sessions}) == 1
    assert len({s.turns[0].token_ids for s in sessions}) == 3
    assert all(len(s.turns) == 5 and s.turns[0].think_time == 0 for s in sessions)
    assert all(turn.think_time > 0 for s in sessions for turn in s.turns[1:])
    in_words = synthetic.chat(synthetic.ChatConfig(count=3, content=Content(text=True)), 0)
    assert len({s.system for s in in_words}) == 1 and in_words[0].system


def test_popular_documents_come_often_and_never_twice_in_a_prompt():
    config = synthetic.RagConfig(
        count=200, documents=20, document=fixed(8), k=3, system=0, question=fixed(4)
    )
    prompts = [first_prompt(s) for s in synthetic.rag(config, 0)]
    chosen = [[p[i : i + 8] for i in (0, 8, 16)] for p in prompts]
    assert all(len(set(documents)) == 3 for documents in chosen)
    flat = [document for documents in chosen for document in documents]
    counts = sorted((flat.count(d) for d in set(flat)), reverse=True)
    assert len(counts) <= 20 and counts[0] > 3 * counts[-1]


def test_a_prompt_never_needs_more_documents_than_there_are():
    config = synthetic.RagConfig(count=2, documents=2, document=fixed(8), k=9, zipf=10.0)
    assert all(len(first_prompt(s)) == 50 + 16 + 30 for s in synthetic.rag(config, 0))


def test_completions_of_a_file_begin_alike():
    config = synthetic.CodeConfig(count=30, files=3, size=fixed(200), edit=fixed(5))
    prompts = [first_prompt(s) for s in synthetic.code(config, 0)]
    assert len({p[:100] for p in prompts}) == 3
    assert all(105 <= len(p) <= 205 for p in prompts)


def test_agents_call_tools_until_they_answer():
    config = synthetic.AgenticConfig(count=2, turns=fixed(4), result=fixed(50))
    for session in synthetic.agentic(config, 0):
        assert [t.max_tokens for t in session.turns] == [40, 40, 40, 200]
        assert [len(t.token_ids) for t in session.turns] == [900, 50, 50, 50]


@pytest.mark.parametrize(
    ("builder", "config"),
    [
        (synthetic.random_lengths, synthetic.RandomConfig(count=0)),
        (synthetic.random_lengths, synthetic.RandomConfig(ratio=float("nan"))),
        (synthetic.prefix_tree, synthetic.TreeConfig(share=1.5)),
        (synthetic.chat, synthetic.ChatConfig(think=-1.0)),
    ],
)
def test_values_out_of_bounds_are_the_users_error(builder, config):
    with pytest.raises(ConfigError):
        builder(config, 0)


@pytest.mark.parametrize("text", ["", "x", "0", "9-5", "5~-1", "nan~1", "1~inf", "1-2-3", "-4"])
def test_impossible_lengths_are_the_users_error(text):
    with pytest.raises(ConfigError):
        parse_length(text)
