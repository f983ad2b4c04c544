"""A page that follows a run in a real browser; presets, and what the details show.

Runs where selenium and Chromium are installed.
"""

import json
import time
from pathlib import Path

import pytest

pytest.importorskip("selenium")

from instrument.explorer import test_browser as helpers
from sixfold.core.point import Point
from sixfold.instrument.explorer.live import LiveServer
from sixfold.instrument.explorer.page import write_page
from sixfold.instrument.store.follow import under_way
from sixfold.instrument.store.store import Store

browser = helpers.browser
click, count, find = helpers.click, helpers.count, helpers.find
point, set_value, show, wait = helpers.point, helpers.set_value, helpers.show, helpers.wait
QUESTION = helpers.QUESTION


def live_text(browser) -> str:
    return find(browser, "#live").text.lstrip("● ")


def rows(browser) -> int:
    return count(browser, ".points tbody tr")


def test_points_come_in_while_a_run_appends_and_choices_stay(browser, tmp_path):
    path = tmp_path / "s.db"
    show(browser, 1400, "light")
    with Store(path) as store:
        store.append([point("vllm", 1, 0), point("sixfold", 1, 0)])
        with under_way(path), LiveServer(path, "follow") as server:
            browser.get(f"{server.url}#{QUESTION}&b=ttft%3Ap95%3C0.4~ms&f.engine=vllm")
            wait(lambda: live_text(browser) == "live")
            assert find(browser, "#live").get_attribute("aria-live") == "polite"
            click(browser, ".points tbody button")
            details = find(browser, "#details").text
            box = find(browser, "#budget-0")
            box.clear()
            box.send_keys("12")  # not done yet: a redraw must not take it away
            store.append([point(name, c, 0) for name in ("vllm", "sixfold") for c in (2, 4)])
            wait(lambda: rows(browser) == 3)
            assert box.get_attribute("value") == "12" and box == browser.switch_to.active_element
            assert find(browser, "#details").text == details
            assert "3 of 6 configurations shown" in find(browser, "#count").text
            box.send_keys("3\t")
            assert "TTFT p95 < 123 ms" in find(browser, "#sentence").text
        # The server has gone; its page says so and keeps what it has.
        wait(lambda: live_text(browser) == "connection lost")
        assert rows(browser) == 3
    browser.get_log("browser")


def test_an_empty_page_fills_and_hears_of_the_end(browser, tmp_path):
    path = tmp_path / "s.db"
    with Store(path) as store, LiveServer(path, "follow") as server:
        with under_way(path):
            browser.get("about:blank")
            browser.get(f"{server.url}#{QUESTION}&f.engine=vllm&b=ttft%3Ap95%3C0.4~ms")
            wait(lambda: live_text(browser) == "live")
            store.append([point("vllm", 1, 0), point("sixfold", 1, 0)])
            wait(lambda: rows(browser) == 1)
            assert "TTFT p95 < 400 ms" in find(browser, "#sentence").text
        wait(lambda: live_text(browser) == "the run has ended")
        with under_way(path):
            store.append([point("vllm", 2, 0)])
            wait(lambda: live_text(browser) == "live" and rows(browser) == 2)
        wait(lambda: live_text(browser) == "the run has ended")
    # The server has gone, but the run had ended before: that stays what is said.
    time.sleep(2.5)
    assert live_text(browser) == "the run has ended"
    assert [e for e in browser.get_log("browser") if "Content Security" in e["message"]] == []


@pytest.fixture
def page(browser, tmp_path):
    """Opens a page of the given points; the console must stay empty."""
    browser.get("about:blank")
    browser.get_log("browser")
    show(browser, 1400, "light")

    def open_page(points: list[Point], fragment: str = QUESTION):
        path = tmp_path / "page.html"
        write_page(points, path, "explorer")
        browser.get("about:blank")
        browser.get(f"{path.as_uri()}#{fragment}")
        return browser

    yield open_page
    assert browser.get_log("browser") == []


def test_a_preset_fills_the_budgets_and_says_what_is_not_measured(page):
    browser = page(helpers.sweep())
    set_value(browser, "#preset", "chat@llm-d-planner")
    assert find(browser, "#sentence").text.endswith("with TTFT p95 ≤ 150 ms.")
    note = find(browser, "#preset-note").text
    assert "llm-d Planner" in note and "ITL p95 ≤ 25 ms and E2E latency p95 ≤ 7 s" in note
    assert "not known" in note and "preset=chat" in browser.current_url
    fragment = browser.current_url.partition("#")[2]
    browser = page(helpers.sweep(), fragment)
    assert find(browser, "#preset").get_attribute("value") == "chat@llm-d-planner"
    set_value(browser, "#budget-0", "200")
    assert not find(browser, "#preset-note").is_displayed()
    assert find(browser, "#preset").get_attribute("value") == ""


def test_details_show_telemetry_and_what_was_sent(page):
    hostile = "<img src=x onerror=\"document.title='owned'\">"
    telemetry = {
        "cpu_percent": 12.5,
        "quality_passed": True,
        "notes": ["no GPU", hostile],
        "tpot_by_context": [{"context": 512, "tpot": 0.01}],
    }
    sent = {"prompt_tokens": {"p50": 100, "p95": 240}}
    bound = {"client_bound": True, "reason": "late"}
    browser = page([point("a", 1, 0, telemetry=telemetry, fingerprint=sent, client=bound)])
    click(browser, ".points tbody button")
    text = find(browser, "#details").text
    assert "the client, not the server" in text
    for want in ("cpu percent", "12.5", "quality passed", "no GPU", hostile, "512", "p95", "240"):
        assert want in text
    assert count(browser, "#details table.nested table.nested") >= 2 and count(browser, "img") == 0


def test_what_failed_the_quality_check_is_never_the_best(page):
    worse = {"quality_passed": False, "quality_reason": "10% of first tokens"}
    browser = page([point("sixfold", 1, 0), point("vllm", 1, 0, telemetry=worse)])
    assert "sixfold" in find(browser, "#best").text  # the other one is faster
    assert "quality failed" in find(browser, ".points tbody").text
    names = [b.text for b in browser.find_elements("css selector", ".points tbody button")]
    browser.find_elements("css selector", ".points tbody button")[names.index("vllm 1.0")].click()
    assert "failed the quality check: 10% of first tokens" in find(browser, "#details").text


@pytest.mark.parametrize("indent", [None, 1])
def test_other_tools_results_are_pointed_to_their_import(page, tmp_path: Path, indent):
    browser = page([point("a", 1, 0)])
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"backend": "vllm", "output_throughput": 3.0}, indent=indent))
    helpers.give(browser, path, "input")
    wait(lambda: "sixfold import result.json --store" in find(browser, "#message").text)
    assert "Nothing was added" in find(browser, "#message").text
