"""The page's "Which strategy?" in a real browser: the same answers as `sixfold match`.

Runs where selenium and Chromium are installed.
"""

import pytest

pytest.importorskip("selenium")

from instrument.explorer import test_browser as helpers
from sixfold.instrument.advisor.match import QUESTIONS, matches, parse
from sixfold.strategies import COMPLAINTS, CONSTRAINTS, STAGES

browser, page = helpers.browser, helpers.page
count, find, set_value = helpers.count, helpers.find, helpers.set_value
show, wait = helpers.show, helpers.wait
QUESTION = helpers.QUESTION
PEAK = QUESTION + "&guide=TTFT+spikes+at+peak"


def table(browser) -> list[list[str]]:
    script = (
        "return [...document.querySelectorAll('.guide-table tbody tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    return browser.execute_script(script)


def test_it_opens_by_keyboard_and_closes(page):
    from selenium.webdriver.common.keys import Keys

    browser = page(QUESTION)
    assert not find(browser, "#guide-body").is_displayed()
    assert "guide=" not in browser.current_url
    find(browser, "#guide summary").send_keys(Keys.ENTER)
    wait(lambda: "guide=TTFT" in browser.current_url)
    assert find(browser, "#guide-count").text == "TTFT spikes at peak: 7 techniques, best first"
    find(browser, "#guide-question").send_keys("which")
    wait(lambda: find(browser, "#guide-count").text.startswith("which parallelism?: 5 techniques"))
    focused = browser.execute_script("return document.activeElement.id")
    assert focused == "guide-question"
    find(browser, "#guide summary").send_keys(Keys.ENTER)
    wait(lambda: "guide=" not in browser.current_url)


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_has_the_answers_of_the_command_line(page, question):
    browser = page(PEAK)
    set_value(browser, "#guide-question", question.text)
    rows = table(browser)
    found = matches(question)
    assert len(rows) == len(found)
    for (head, *cells), match in zip(rows, found, strict=True):
        one = match.technique
        assert head.startswith(one.name + one.status)
        assert f"stage {one.stage}: {one.stage_name}" in head
        assert cells[:5] == [match.why, one.effective_when, one.not_when, one.costs, one.metric]
        for switch in one.switches:
            assert f"{switch.engine} {switch.words}" in cells[5]


def test_an_engine_keeps_what_it_has_a_switch_for_and_a_link_restores_both(page):
    browser = page(PEAK)
    set_value(browser, "#guide-engine", "llamacpp")
    want = [m.technique.name for m in matches(parse("TTFT spikes at peak"), "llamacpp")]
    rows = table(browser)
    assert len(rows) == len(want) < len(matches(parse("TTFT spikes at peak")))
    assert all(row[0].startswith(name) for row, name in zip(rows, want, strict=True))
    assert "--enable-prefix-caching" not in find(browser, ".guide-table").text
    fragment = browser.current_url.partition("#")[2]
    browser = page(fragment)
    assert find(browser, "#guide-engine").get_attribute("value") == "llamacpp"
    assert table(browser) == rows
    set_value(browser, "#guide-engine", "sixfold")
    set_value(browser, "#guide-question", "model scale")
    said = find(browser, "#guide-count").text
    assert said == "model scale: no techniques that sixfold has a switch for"
    assert table(browser) == []


def test_all_questions_and_stages_are_there_and_unknown_ones_stay_closed(page):
    browser = page(PEAK)
    options = browser.find_elements("css selector", "#guide-question option")
    assert [o.get_attribute("value") for o in options] == [*COMPLAINTS, *CONSTRAINTS]
    order = [li.text for li in browser.find_elements("css selector", ".guide-order li")]
    assert all(line.startswith(s.name) for line, s in zip(order, STAGES, strict=True))
    browser = page(QUESTION + "&guide=%3Cimg+src%3Dx%3E&guide.engine=no")
    assert not find(browser, "#guide-body").is_displayed() and count(browser, "img") == 0


def test_points_that_change_leave_it_as_it_is(page):
    browser = page(PEAK)
    browser.execute_script("document.querySelector('.guide-table').dataset.mark = 'same'")
    helpers.click(browser, "[id='o-engine-sixfold']")
    assert count(browser, ".guide-table[data-mark='same']") == 1
    assert "guide=TTFT" in browser.current_url


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (1400, "dark"), (500, "dark")])
def test_it_fits_the_page_and_has_names(page, width, scheme):
    browser = page("")
    show(browser, width, scheme, 2400)
    browser = page(PEAK)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    script = (
        "return [...document.querySelectorAll('#guide select')].filter((n) =>"
        " !n.getAttribute('aria-label')).length"
    )
    assert browser.execute_script(script) == 0
    colours = (
        "const c = (n) => getComputedStyle(document.querySelector(n));"
        "return [c('.guide-table').color, c('#guide-body').backgroundColor]"
    )
    ink, ground = browser.execute_script(colours)
    assert ink != ground
    helpers.shot(browser, f"guide-{scheme}-{width}")
