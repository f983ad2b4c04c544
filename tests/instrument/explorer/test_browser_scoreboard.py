"""The page's scoreboard in a real browser: every verdict, harm like help, in words and as whiskers.

Runs where selenium and Chromium are installed.
"""

import pytest

pytest.importorskip("selenium")

from instrument.advisor.entries import HOSTILE, hostile, samples
from instrument.explorer import test_browser as helpers
from sixfold.instrument.advisor.tally import rows
from sixfold.instrument.explorer.page import write_page

browser = helpers.browser
count, find, set_value = helpers.count, helpers.find, helpers.set_value
show, wait = helpers.show, helpers.wait
OPEN = helpers.QUESTION + "&board=open"


@pytest.fixture
def page(browser, tmp_path):
    """Opens a page with a scoreboard at a fragment; afterwards the console must be empty."""
    show(browser, 1400, "light")

    def open_at(fragment: str, entries=None, points=None):
        path = tmp_path / "page.html"
        entries = samples() if entries is None else entries
        write_page(helpers.sweep() if points is None else points, path, "explorer", entries)
        browser.get("about:blank")
        browser.get(f"{path.as_uri()}#{fragment}")
        return browser

    yield open_at
    assert browser.get_log("browser") == []
    assert browser.title == "explorer"


def table(browser) -> list[list[str]]:
    script = (
        "return [...document.querySelectorAll('.board tbody tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.innerText.trim()))"
    )
    return browser.execute_script(script)


def column(browser, number: int) -> list[str]:
    return [row[number] for row in table(browser)]


def test_it_opens_by_keyboard_and_closes(page):
    from selenium.webdriver.common.keys import Keys

    browser = page(helpers.QUESTION)
    assert not find(browser, "#board-body").is_displayed()
    find(browser, "#board summary").send_keys(Keys.ENTER)
    wait(lambda: "board=open" in browser.current_url)
    said = "All strategies: 6 tried, 2 GAIN, 1 NO GAIN, 1 INCONCLUSIVE, 2 WORSE"
    assert find(browser, "#board-count").text == said
    find(browser, "#board summary").send_keys(Keys.ENTER)
    wait(lambda: "board=" not in browser.current_url)


def test_every_trial_is_there_in_words(page):
    browser = page(OPEN)
    found = table(browser)
    shown = sorted(rows(samples()), key=lambda row: row.date, reverse=True)
    assert len(found) == len(shown) == 6, "newest first, and the same one once"
    for cells, row in zip(found, shown, strict=True):
        assert cells[:2] == [row.strategy, row.call]
        assert cells[4] == str(row.pairs) and cells[6] == row.symptom
        assert cells[8:11] == [row.workload, row.slo, row.date[:10]]
        assert row.engine in cells[7] and row.model in cells[7] and row.hardware in cells[7]
        assert row.commit[:12] in cells[11] and ("local changes" in cells[11]) == row.dirty
    assert found[5][2].startswith("+200 % (+173 % to +230 %)")
    assert found[4][2].startswith("−50 % (−55 % to −45 %)")
    assert found[3][2].startswith("+33 % (+21 % to +47 %)"), "less time is a gain"
    assert found[0][2].startswith("–") and "no memory" in found[0][2]
    assert found[3][5] == "enable_prefix_caching default → on"
    assert found[4][5] == "max_num_seqs 2 → 8"


def test_whiskers_span_the_interval_and_harm_lies_left_of_no_change(page):
    browser = page(OPEN)
    script = (
        "return [...document.querySelectorAll('.board tbody tr')].map((row) => {"
        " const bar = row.querySelector('.board-bar'); if (!bar) return null;"
        " const x = (n, name) => Number(n.getAttribute(name));"
        " const span = bar.querySelector('.span');"
        " return [row.dataset.call, x(bar.querySelector('.none'), 'x1'), x(span, 'x1'),"
        "  x(bar.querySelector('circle'), 'cx'), x(span, 'x2'), x(bar, 'width')]; })"
    )
    bars = browser.execute_script(script)
    assert bars[0] is None, "without a ratio nothing is drawn"
    assert len({none for _, none, *_ in bars[1:]}) == 1, "one scale"
    for call, none, low, middle, high, width in bars[1:]:
        assert 0 < low < middle < high < width
        assert middle - low == pytest.approx(high - middle), "ratios, by their logarithm"
        if call == "GAIN":
            assert low > none
        elif call == "WORSE":
            assert high < none
        else:
            assert low < none < high
    assert count(browser, ".board tr[data-call=WORSE] .badge.bad") == 2


def test_columns_sort_both_ways_by_keyboard_and_keep_the_focus(page):
    from selenium.webdriver.common.keys import Keys

    browser = page(OPEN)
    assert find(browser, "th[aria-sort=descending]").text == "Date ↓"
    for text in ("Gain ↓", "Gain ↑"):
        find(browser, "#board-sort-gain").send_keys(Keys.ENTER)
        wait(lambda text=text: find(browser, "#board-sort-gain").text == text)
        focused = browser.execute_script("return document.activeElement.id")
        assert focused == "board-sort-gain"
        gains = column(browser, 2)
        assert gains[-1].startswith("–"), "what has no ratio is last in either direction"
        first, last = ("+200", "−50") if text == "Gain ↓" else ("−50", "+200")
        assert gains[0].startswith(first) and gains[-2].startswith(last)
    find(browser, "#board-sort-call").send_keys(Keys.ENTER)
    wait(lambda: find(browser, "#board-sort-call").text == "Call ↑")
    assert column(browser, 1) == ["GAIN", "GAIN", "NO GAIN", "INCONCLUSIVE", "WORSE", "WORSE"]


def test_a_strategy_keeps_its_trials_and_a_link_restores_both(page):
    browser = page(OPEN)
    options = browser.find_elements("css selector", "#board-strategy option")
    assert [o.text for o in options] == [
        "all (6)", "continuous batching (3)",
        "Measure with more client processes, or from a faster machine (1)", "prefix caching (2)",
    ]  # fmt: skip
    set_value(browser, "#board-strategy", "continuous batching")
    helpers.click(browser, "#board-sort-pairs")
    said = "continuous batching: 3 tried, 1 GAIN, 0 NO GAIN, 0 INCONCLUSIVE, 2 WORSE"
    assert find(browser, "#board-count").text == said
    want = table(browser)
    assert len(want) == 3 and want[0][4] == "4"
    browser = page(browser.current_url.partition("#")[2])
    assert table(browser) == want and find(browser, "#board-count").text == said
    assert find(browser, "#board-strategy").get_attribute("value") == "continuous batching"
    browser = page(OPEN + "&board.strategy=%3Cimg+src%3Dx%3E&board.sort=-__proto__")
    assert len(table(browser)) == 6 and count(browser, "img") == 0


def test_points_that_change_leave_it_as_it_is(page):
    browser = page(OPEN)
    browser.execute_script("document.querySelector('.board').dataset.mark = 'same'")
    helpers.click(browser, "[id='o-engine-sixfold']")
    assert count(browser, ".board[data-mark='same']") == 1
    assert "board=open" in browser.current_url


def test_without_entries_there_is_no_panel(page):
    browser = page(OPEN, entries=[])
    assert not find(browser, "#board").is_displayed()
    helpers.click(browser, "[id='o-engine-sixfold']")
    assert "board=" not in browser.current_url


def test_it_is_there_without_points(page):
    browser = page("max=&board=open", points=[])
    assert len(table(browser)) == 6


def test_hostile_texts_are_texts(page):
    browser = page(OPEN, entries=[*samples(), hostile()])
    (cells,) = [row for row in table(browser) if row[0] not in column_names()]
    plain = " ".join(HOSTILE.split())
    for number in (0, 6, 8, 9):
        assert " ".join(cells[number].split()) == plain
    assert "owned" in cells[2] and "owned" in cells[5] and "owned" in cells[7]
    assert count(browser, "img") == 0
    set_value(browser, "#board-strategy", HOSTILE)
    assert len(table(browser)) == 1
    browser = page(browser.current_url.partition("#")[2], entries=[*samples(), hostile()])
    assert len(table(browser)) == 1 and count(browser, "img") == 0


def column_names() -> set[str]:
    return {row.strategy for row in rows(samples())}


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (1400, "dark"), (500, "dark")])
def test_it_fits_the_page_scrolls_by_keyboard_and_has_names(page, width, scheme):
    browser = page("")
    show(browser, width, scheme, 1600)
    browser = page(OPEN)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    box = find(browser, "#board-table")
    assert box.get_attribute("tabindex") == "0" and box.get_attribute("aria-label")
    script = (
        "return [...document.querySelectorAll('#board button, #board select')].filter((n) =>"
        " !(n.getAttribute('aria-label') || n.textContent.trim())).length"
    )
    assert browser.execute_script(script) == 0
    colours = (
        "const c = (n) => getComputedStyle(document.querySelector(n));"
        "return [c('.board').color, c('#board-body').backgroundColor,"
        " c('.board-bar.good').color, c('.board-bar.bad').color]"
    )
    assert len(set(browser.execute_script(colours))) == 4
    helpers.shot(browser, f"scoreboard-{scheme}-{width}")
