"""`sixfold match`: the overview, an answer, one engine, JSON, and words that mean nothing."""

import json

import pytest

from sixfold.cli.main import VERBS, main
from sixfold.cli.match import WIDTH
from sixfold.instrument.advisor.match import switch_words
from sixfold.strategies import CARDS, COMPLAINTS, CONSTRAINTS, ENGINES, STAGES

QUESTIONS = (*CONSTRAINTS, *COMPLAINTS)


def printed(capsys, *arguments: str) -> str:
    assert main(["match", *arguments]) == 0
    return capsys.readouterr().out


def squeezed(text: str) -> str:
    """Without the line breaks and indents of wrapping."""
    return " ".join(text.split())


def test_it_comes_before_what_runs_models():
    verbs = list(VERBS)
    assert verbs.index("match") < verbs.index("serve")


def test_the_overview_has_all_questions_techniques_and_stages(capsys):
    out = squeezed(printed(capsys))
    for name in (*QUESTIONS, *(card.name for card in CARDS), *(s.what for s in STAGES)):
        assert name in out
    places = [out.index(f"{number}. {stage.name}") for number, stage in enumerate(STAGES, 1)]
    assert places == sorted(places)
    assert "prefix-aware routing*" in out and "prefix caching*" not in out


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_has_the_whole_of_each_card(question, capsys):
    out = printed(capsys, *question.split())
    text = squeezed(out)
    for card in CARDS:
        if question not in (*card.relieves, *card.answers):
            continue
        why = card.answers.get(question, card.bottleneck)
        for said in (card.name, why, card.pays, card.not_when, card.costs, card.metric):
            assert squeezed(said) in text
        assert f"{card.status}, stage {card.stage + 1}: {STAGES[card.stage].name}" in text
        for engine, knob in card.knobs.items():
            assert f"{engine}: {switch_words(knob)}" in text


@pytest.mark.parametrize("arguments", [(), *((q,) for q in QUESTIONS)])
@pytest.mark.parametrize("engine", [None, *ENGINES])
def test_lines_fit_the_page(arguments, engine, capsys):
    chosen = ("--engine", engine) if engine else ()
    out = printed(capsys, *arguments, *chosen)
    assert max(map(len, out.splitlines())) <= WIDTH


def test_one_engine_shows_its_own_switches_only(capsys):
    out = printed(capsys, "first-token latency", "--engine", "llama.cpp")
    assert "llamacpp: --cache-prompt (default); off: --no-cache-prompt" in squeezed(out)
    assert "--enable-prefix-caching" not in out and "prefix-aware routing" not in out


def test_an_engine_without_an_answer_says_who_has_one(capsys):
    out = printed(capsys, "model scale", "--engine", "sixfold")
    assert "no techniques that sixfold has a switch for" in out
    assert "elsewhere" in out and "tensor parallelism" in out


def test_a_synonym_shows_what_it_was_taken_for(capsys):
    assert printed(capsys, "p99").startswith("symptom 'tail latency jumps': ")
    assert printed(capsys, "tpot").startswith("constraint 'inter-token latency': ")


def test_json_of_an_answer(capsys):
    shown = json.loads(printed(capsys, "oom", "--json", "--engine", "vllm"))
    assert (shown["kind"], shown["question"]) == ("complaint", "KV cache pressure")
    assert shown["engine"] == "vllm"
    first = shown["matches"][0]
    assert first["name"] == "PagedAttention" and first["strength"] == 1 and first["stage"] == 1
    assert [switch["engine"] for switch in first["switches"]] == ["vllm"]
    for key in ("why", "effective_when", "not_when", "costs", "metric", "status", "stage_name"):
        assert first[key]


def test_json_of_the_overview(capsys):
    shown = json.loads(printed(capsys, "--json"))
    assert [q["question"] for q in shown["questions"]] == list(QUESTIONS)
    assert [step["name"] for step in shown["adoption"]] == [stage.name for stage in STAGES]
    assert {one["name"] for one in shown["techniques"]} == {card.name for card in CARDS}


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("nonsense", "words"), "which parallelism?"),
        (("latency",), "write one of them"),
        (("cost", "--engine", "tgi"), "choose: sixfold, vllm, sglang, llamacpp"),
    ],
)
def test_what_is_not_understood_is_an_error_with_choices(arguments, hint, capsys):
    assert main(["match", *arguments]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and hint in said.err and not said.out


def test_a_card_in_full_has_the_new_texts(capsys):
    card = next(card for card in CARDS if card.name == "prefix caching")
    assert main(["strategies", "prefix caching"]) == 0
    out = capsys.readouterr().out
    assert card.costs in out and STAGES[card.stage].name in out
    assert all(f"{name}: {why}" in out for name, why in card.answers.items())
    assert "first-token latency, cost" in out
