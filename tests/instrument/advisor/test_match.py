"""What was typed is understood or refused; the order of the answers is the cards' own."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sixfold.core.errors import ConfigError
from sixfold.instrument.advisor.match import (
    QUESTIONS,
    SYNONYMS,
    Match,
    Question,
    adoption,
    engine_named,
    matches,
    parse,
    plain,
    switch_words,
    technique_of,
    techniques,
)
from sixfold.strategies import CARDS, COMPLAINTS, CONSTRAINTS, ENGINES, STAGES, Knob

BY_NAME = {card.name: card for card in CARDS}


def names(text: str, engine: str | None = None) -> list[str]:
    return [match.technique.name for match in matches(parse(text), engine)]


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_name_is_understood_in_any_case(question):
    for text in (question.text, question.text.upper(), f"  {question.text.lower()} !"):
        assert parse(text) == question


@pytest.mark.parametrize("text", SYNONYMS)
def test_synonyms_mean_what_the_table_says(text):
    for word in SYNONYMS[text]:
        assert plain(word) == word, "it would never be found"
        assert parse(word).text == text


def test_no_word_means_two_things():
    words = [word for known in SYNONYMS.values() for word in known]
    words += [plain(question.text) for question in QUESTIONS]
    assert len(set(words)) == len(words)
    assert set(SYNONYMS) == {question.text for question in QUESTIONS}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("first-token", "first-token latency"),
        ("through", "throughput"),
        ("TTFT spikes", "TTFT spikes at peak"),
        ("tok/s", "throughput"),
        ("kv pressure", "KV cache pressure"),
        ("conversations", "decode slows as conversations grow"),
        ("spikes", "TTFT spikes at peak"),
        ("parallelism", "which parallelism?"),
        ("throughptu", "throughput"),
        ("hardware idels between brusts", "hardware idles between bursts"),
        ("preemptoins", "KV cache pressure"),
        ("Tensor Parallelism", "which parallelism?"),
        ("cost", "cost"),
    ],
)
def test_beginnings_words_and_near_misses(typed, meant):
    assert parse(typed).text == meant


@pytest.mark.parametrize("typed", ["latency", "token", "t"])
def test_what_may_mean_several_is_not_guessed(typed):
    with pytest.raises(ConfigError, match=" or ") as caught:
        parse(typed)
    assert "write one of them" in caught.value.hint


@pytest.mark.parametrize("typed", ["", "  ", "?", "$", "zzzzzz", "colour of the logo"])
def test_what_is_like_nothing_names_the_choices(typed):
    with pytest.raises(ConfigError) as caught:
        parse(typed)
    for question in QUESTIONS:
        assert question.text in caught.value.hint


@given(st.text(max_size=60))
def test_any_text_is_a_question_or_an_error(text):
    try:
        assert parse(text) in QUESTIONS
    except ConfigError as error:
        assert error.hint


@pytest.mark.parametrize("question", QUESTIONS)
def test_main_uses_come_first_then_what_is_built_and_what_is_early(question):
    found = matches(question)
    assert len(found) >= 2
    order = [(m.strength, m.technique.status != "built", m.technique.stage) for m in found]
    assert order == sorted(order)
    for match in found:
        card = BY_NAME[match.technique.name]
        uses = card.relieves if question.kind == "constraint" else tuple(card.answers)
        assert uses[match.strength - 1] == question.text
    assert found == matches(question), "the order is the same every time"


def test_nothing_of_the_cards_is_left_out():
    for card in CARDS:
        said = {q.text for q in QUESTIONS if card.name in [m.technique.name for m in matches(q)]}
        assert said == {*card.relieves, *card.answers}


def test_a_symptom_has_the_cards_sentence_and_a_constraint_what_it_relieves():
    (why,) = [m.why for m in matches(parse("idle")) if m.technique.name == "continuous batching"]
    assert why == BY_NAME["continuous batching"].answers["hardware idles between bursts"]
    (why,) = [m.why for m in matches(parse("cost")) if m.technique.name == "prefix caching"]
    assert why == BY_NAME["prefix caching"].bottleneck


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("ttft", "prefix caching"),
        ("inter-token latency", "chunked prefill"),
        ("throughput", "continuous batching"),
        ("concurrency", "PagedAttention"),
        ("model scale", "tensor parallelism"),
        ("cost", "offline batch inference"),
        ("which parallelism?", "data parallelism"),
        ("idle", "continuous batching"),
        ("oom", "PagedAttention"),
    ],
)
def test_the_best_answers(text, first):
    assert names(text)[0] == first


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("question", QUESTIONS)
def test_an_engine_has_only_what_it_has_a_switch_for(question, engine):
    every = [m.technique.name for m in matches(question)]
    found = matches(question, engine)
    kept = [name for name in every if engine in BY_NAME[name].knobs]
    assert [m.technique.name for m in found] == kept
    for match in found:
        (switch,) = match.technique.switches
        knob = BY_NAME[match.technique.name].knobs[engine]
        assert (switch.engine, switch.on, switch.off) == (engine, knob.on, knob.off)


def test_engines_by_their_usual_names():
    assert engine_named("llama.cpp") == engine_named("LLAMACPP") == "llamacpp"
    assert engine_named("vLLM") == "vllm"
    with pytest.raises(ConfigError) as caught:
        engine_named("tgi")
    assert all(engine in caught.value.hint for engine in ENGINES)


def test_adoption_has_every_technique_once_in_the_order_of_the_stages():
    steps = adoption()
    assert [(step.stage, step.name, step.what) for step in steps] == [
        (number, stage.name, stage.what) for number, stage in enumerate(STAGES, 1)
    ]
    found = [one.name for step in steps for one in step.techniques]
    assert sorted(found) == sorted(BY_NAME)
    for step in adoption("sixfold"):
        assert all("sixfold" in BY_NAME[one.name].knobs for one in step.techniques)


def test_records_go_to_json_and_back():
    question = Question("complaint", "KV cache pressure")
    found = matches(question)
    assert msgspec.json.decode(msgspec.json.encode(found), type=tuple[Match, ...]) == found
    assert {one.name for one in techniques()} == set(BY_NAME)
    card = BY_NAME["prefix caching"]
    one = technique_of(card)
    assert (one.costs, one.not_when, one.effective_when) == (card.costs, card.not_when, card.pays)


@pytest.mark.parametrize(
    ("knob", "words"),
    [
        (Knob("--on", "--off"), "--on; off: --off"),
        (Knob("--on", "--off", True), "--on (default); off: --off"),
        (Knob("--on", ""), "--on; off: leave it out"),
        (Knob("", "--off"), "on by default; off: --off"),
        (Knob(""), "built in"),
        (Knob("--on"), "--on"),
    ],
)
def test_switches_in_words(knob, words):
    assert switch_words(knob) == words


def test_the_issue_s_constraints_and_symptoms_are_all_there():
    assert CONSTRAINTS == (
        "first-token latency",
        "inter-token latency",
        "throughput",
        "concurrency",
        "model scale",
        "cost",
    )
    assert COMPLAINTS == (
        "TTFT spikes at peak",
        "decode slows as conversations grow",
        "KV cache pressure",
        "tail latency jumps",
        "hardware idles between bursts",
        "which parallelism?",
    )
