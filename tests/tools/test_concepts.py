"""The strategies' pages: what they say of a card, and what counts as left behind."""

import msgspec
import pytest

import concepts
from checks import cards
from sixfold.strategies import CARDS, Knob

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
    assert len(pages) == len(CARDS) + 1
    for card in CARDS:
        assert f"({card.slug}.md)" in pages["README.md"]
        for text in (card.what, card.bottleneck, card.symptom, card.pays, card.not_when):
            assert text in pages[f"{card.slug}.md"]


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


def test_the_benchmark_has_cases():
    assert "prefix caching" in cards.measured_cases()
