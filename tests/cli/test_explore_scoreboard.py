"""`sixfold explore --scoreboard`: verdicts reach the page; a file that is none leaves no page."""

import json
import re
import urllib.request
from pathlib import Path

import pytest

from instrument.advisor.entries import hostile, samples
from sixfold.cli.main import main
from sixfold.core.point import Point
from sixfold.instrument.advisor.scoreboard import append
from sixfold.instrument.explorer.live import LiveServer
from sixfold.instrument.explorer.page import write_page
from sixfold.instrument.store.lines import write_lines
from sixfold.instrument.store.store import Store


def board_of(page: str) -> list[dict]:
    found = re.search(r'<script type="application/json" id="settings">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])["scoreboard"]


def explore(tmp_path: Path, board: Path) -> int:
    page = str(tmp_path / "p.html")
    return main(["explore", "--no-published", "--scoreboard", str(board), "-o", page])


def test_verdicts_reach_the_page_and_their_texts_stay_in_its_json(tmp_path, capsys):
    board = tmp_path / "board.jsonl"
    append(board, [*samples(), hostile()])
    assert explore(tmp_path, board) == 0
    assert "0 points, 7 verdicts" in capsys.readouterr().out
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert [row["call"] for row in board_of(page)].count("WORSE") == 3
    assert "<img" not in page and page.count("<script") == 3
    assert board_of(page)[-1]["workload"] == hostile().workload


def test_without_it_there_are_none(tmp_path):
    page = tmp_path / "p.html"
    write_page([], page, "t")
    assert board_of(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("kind", ["none", "points", "store", "text", "empty", "folder"])
def test_a_file_that_is_no_scoreboard_leaves_no_page(tmp_path, capsys, kind):
    board = tmp_path / "board.jsonl"
    point = Point(id="a", date="2026-01-01T00:00:00Z", engine="e", model="m")
    if kind == "points":
        write_lines(board, [point])
    elif kind == "store":
        with Store(board) as store:
            store.append([point])
    elif kind == "folder":
        board.mkdir()
    elif kind != "none":
        board.write_text("no scoreboard" if kind == "text" else "", encoding="utf-8")
    assert explore(tmp_path, board) == 1
    said = capsys.readouterr().err
    assert "board.jsonl" in said and "hint" in said and "Traceback" not in said
    assert not (tmp_path / "p.html").exists()


def test_a_page_that_follows_a_run_has_it_too(tmp_path, capsys):
    store = tmp_path / "s.db"
    with Store(store), LiveServer(store, "t", scoreboard=samples()) as server:
        with urllib.request.urlopen(server.url, timeout=10) as response:
            page = response.read().decode()
        assert len(board_of(page)) == 6
    assert main(["explore", "--live", str(store), "--scoreboard", str(tmp_path / "none")]) == 1
    assert "can't read none" in capsys.readouterr().err
