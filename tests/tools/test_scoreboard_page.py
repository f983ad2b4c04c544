"""The scoreboard's page: harm beside help, texts of entries as texts, no page without entries."""

import re
import sys

import pytest

import concepts
import gen_docs
import scoreboard_page
from checks import generated, texts
from checks.tree import Source
from instrument.advisor.entries import HOSTILE, entry, hostile, samples, verdict
from sixfold.core.errors import ConfigError
from sixfold.instrument.advisor.scoreboard import append
from sixfold.instrument.advisor.tally import rows


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(scoreboard_page, "RESULTS", tmp_path)
    return tmp_path


def cells(text: str, heading: str) -> list[list[str]]:
    """The rows of the table under a heading, without its head."""
    part = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [line[2:-2].split(" | ") for line in lines[2:]]


def test_each_strategy_has_its_calls_and_its_median():
    text = scoreboard_page.page(rows(samples()))
    assert "\n6 tried: 2 GAIN, 1 NO GAIN, 2 WORSE, 1 INCONCLUSIVE.\n" in text
    assert cells(text, "By strategy") == [
        ["[continuous batching](../concepts/continuous-batching.md)", "3", "1", "0", "2", "0",
         "+75% (-50% to +200%), of 2"],
        ["[prefix caching](../concepts/prefix-caching.md)", "2", "1", "0", "0", "1",
         "+19% (+5.0% to +33%)"],
        ["Measure with more client processes, or from a faster machine", "1", "0", "1", "0", "0",
         "+0.1%"],
    ]  # fmt: skip


def test_every_trial_has_a_row_and_harm_is_told_like_help():
    found = cells(scoreboard_page.page(rows(samples())), "Every trial")
    assert [row[9] for row in found] == [
        "**GAIN**", "**WORSE**", "**GAIN**", "**NO GAIN**", "**INCONCLUSIVE**", "**WORSE**",
    ]  # fmt: skip
    assert found[1][1:4] == ["sixfold 1.0, model-7b, CPU x4", "`chat:count=12`", "`ttft:p95<1s`"]
    assert found[1][5:9] == ["`max_num_seqs 2 -> 8`", "`goodput`", "-50% (-55% to -45%)", "4"]
    assert found[1][10:] == ["2026-01-02", "`0123456789ab` (with local changes)"]
    assert found[0][11] == "`0123456789ab`"
    assert found[2][5:8] == [
        "`enable_prefix_caching default -> on`", "`ttft:p95`", "+33% (+21% to +47%)",
    ]  # fmt: skip
    assert found[5][7] == "-; runs with the remedy failed: no memory"


def test_texts_of_entries_are_texts():
    text = scoreboard_page.page(rows([hostile()]))
    (row,) = cells(text, "Every trial")
    assert len(row) == 12, "no text makes a cell or a line of its own"
    for cell in (*row[:7], row[10], row[11]):
        outside = re.sub(r"^`[^`]*`", "", cell)
        assert not re.search(r"[<>\[\]`*]", outside) and "://" not in outside
    assert "document.title='owned'" in row[0]
    assert text.isascii() and "# h" not in text
    links = texts.check_links([Source("docs/results/page.md", text)])
    assert all("scoreboard.jsonl" in str(found) for found in links)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a<b", "`a<b`"),
        ("a|b", "`a|b`"),
        ("", "-"),
        ("\n", "-"),
        ("a`b", "a&#96;b"),
        ("[a](b)", "&#91;a&#93;(b)"),
        ("a\nb", "a b"),
        (" a", "a"),
    ],
)
def test_code_holds_what_a_code_span_can(text, shown):
    assert scoreboard_page.code(text) == shown


def test_there_is_a_page_only_where_there_are_entries(results):
    assert list(scoreboard_page.scoreboard_pages()) == [] == scoreboard_page.strays()
    assert "scoreboard" not in gen_docs.results_page()
    (results / "scoreboard.md").write_text("old")
    assert scoreboard_page.strays() == [results / "scoreboard.md"]
    append(results / "scoreboard.jsonl", [])
    assert scoreboard_page.strays() == [results / "scoreboard.md"]
    append(results / "scoreboard.jsonl", samples())
    ((path, text),) = scoreboard_page.scoreboard_pages()
    assert path == results / "scoreboard.md" and text == scoreboard_page.page(rows(samples()))
    assert scoreboard_page.strays() == []
    assert "[scoreboard](scoreboard.md)" in gen_docs.results_page()


def test_the_check_wants_the_page_and_no_page_without_entries(results, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(generated, "ROOT", results)
    monkeypatch.setattr(concepts, "strays", list)
    monkeypatch.setattr(gen_docs, "pages", scoreboard_page.scoreboard_pages)

    def found() -> list[str]:
        return [str(f) for f in generated.check_generated() if "scoreboard" in str(f)]

    append(results / "scoreboard.jsonl", [entry(0, verdict("GAIN", 2.0))])
    assert len(found()) == 1 and "stale" in found()[0]
    ((path, text),) = scoreboard_page.scoreboard_pages()
    path.write_text(text, encoding="utf-8")
    assert found() == []
    (results / "scoreboard.jsonl").unlink()
    assert len(found()) == 1 and "no entries" in found()[0]


def test_a_line_that_is_none_is_named(results):
    (results / "scoreboard.jsonl").write_text(f'{{"a": 1}}\n{HOSTILE}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"scoreboard\.jsonl:1"):
        list(scoreboard_page.scoreboard_pages())
