"""The strategies' pages: what they say of a card, and what counts as left behind."""

import msgspec
import pytest

import concepts
from checks import cards
from sixfold.strategies import CARDS, COMPLAINTS, CONSTRAINTS, STAGES, Knob

PREFIX = next(card for card in CARDS if card.name == "prefix caching")


@pytest.mark.parametrize(
    ("knob", "cells"),
    [
        (Knob("--on", "--off"), ("`--on`", "`--off`")),
        (Knob("--on", ""), ("`--on`", "leave it out")),
        (Knob("", "--off"), ("by default", "`--off`")),
        (Knob(""), ("built in", "no switch")),
    ],
)
def test_switches_are_told(knob, cells):
    assert concepts.switch(knob) == cells


def test_every_card_has_a_page_that_the_index_names():
    pages = {path.name: text for path, text in concepts.concept_pages()}
    assert len(pages) == len(CARDS) + 2
    assert "(match.md)" in pages["README.md"]
    for card in CARDS:
        assert f"({card.slug}.md)" in pages["README.md"]
        for text in (card.what, card.bottleneck, card.symptom, card.pays, card.not_when):
            assert text in pages[f"{card.slug}.md"]
        for text in (card.costs, ", ".join(card.relieves), STAGES[card.stage].name):
            assert text in pages[f"{card.slug}.md"]
        assert all(why in pages[f"{card.slug}.md"] for why in card.answers.values())


def test_the_page_that_matches_has_every_question_text_and_switch():
    text = concepts.match_page()
    for constraint in CONSTRAINTS:
        assert f"\n| {constraint} | [" in text
    for complaint in COMPLAINTS:
        assert f"\n### {concepts.capital(complaint)}\n" in text
    for number, stage in enumerate(STAGES, 1):
        assert f"\n{number}. **{concepts.capital(stage.name)}.** {stage.what} [" in text
    for card in CARDS:
        for said in (*card.answers.values(), card.pays, card.not_when, card.costs, card.metric):
            assert said in text
        for knob in card.knobs.values():
            assert f"| {concepts.switch(knob)[0]} |" in text


def test_planned_techniques_are_marked():
    text = concepts.match_page()
    assert "[prefix-aware routing](prefix-aware-routing.md)\\*" in text
    assert "[prefix caching](prefix-caching.md)\\*" not in text


def test_slugs_do_not_meet_the_family_pages():
    names = [f"{card.slug}.md" for card in CARDS] + list(concepts.FAMILY_PAGES.values())
    assert len(set(names)) == len(names)
    assert {card.family for card in CARDS} == set(concepts.FAMILY_PAGES)


def test_a_record_shows_on_the_page(tmp_path, monkeypatch):
    import records

    monkeypatch.setattr(concepts, "RESULTS", tmp_path)
    assert concepts.measured(PREFIX).startswith("Not measured yet.")
    demo = (records.RESULTS / "demo.json").read_bytes()
    (tmp_path / "strategy-prefix-caching.json").write_bytes(demo)
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    text = concepts.measured(PREFIX)
    assert "| --- |" in text and "Commit" in text and "Not measured" not in text


def test_pages_left_behind_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(concepts, "CONCEPTS", tmp_path)
    for name in ("prefix-caching.md", "batching.md", "gone.md"):
        (tmp_path / name).write_text("x")
    assert [path.name for path in concepts.strays()] == ["gone.md"]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"benchmark": None}, "no benchmark"),
        ({"equality_test": None}, "no equality test"),
        ({"equality_test": "tests/engine/test_invariance.py::test_gone"}, "is not there"),
        ({"knobs": {"sixfold": Knob("--no-such-flag")}}, "serve has no --no-such-flag"),
        ({"knobs": {"other": Knob("")}}, "names an engine"),
    ],
)
def test_a_card_that_promises_too_much_is_found(changes, fault):
    card = msgspec.structs.replace(PREFIX, **changes)
    flags = cards.serve_flags()
    found = [*cards.place_faults(card), *cards.built_faults(card), *cards.knob_faults(card, flags)]
    assert any(fault in text for text in found)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"relieves": ()}, "relieves nothing"),
        ({"relieves": ("cost", "speed")}, "no constraint"),
        ({"relieves": ("cost", "cost")}, "twice"),
        ({"answers": {"it is slow": "When it is slow."}}, "no symptom"),
        ({"answers": {"tail latency jumps": ""}}, "empty text"),
        ({"costs": ""}, "empty text"),
        ({"stage": len(STAGES)}, "is none of the"),
        ({"stage": -1}, "is none of the"),
    ],
)
def test_a_card_that_answers_nothing_known_is_found(changes, fault):
    assert list(cards.use_faults(PREFIX)) == []
    found = list(cards.use_faults(msgspec.structs.replace(PREFIX, **changes)))
    assert len(found) == 1 and fault in found[0]


def test_questions_with_too_few_answers_are_found():
    assert list(cards.choice_faults(CARDS)) == []
    found = "\n".join(cards.choice_faults([PREFIX]))
    assert "cost: 1 cards answer it" in found and "which parallelism?: 0 cards" in found
    assert f"{STAGES[0].name}: nothing is adopted" in found


def test_the_benchmark_has_cases():
    assert "prefix caching" in cards.measured_cases()
