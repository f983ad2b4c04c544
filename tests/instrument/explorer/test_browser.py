"""The page in a real browser: it answers, keeps its state in the address, and stays quiet.

Runs where selenium and Chromium are installed. Screenshots go to SIXFOLD_SHOTS, if that is set.
"""

import json
import os
import shlex
import shutil
import time
from pathlib import Path

import pytest

from instrument.store.samples import ALL
from sixfold.core.point import Point
from sixfold.instrument.explorer.page import write_page
from sixfold.instrument.explorer.published import published_points
from sixfold.instrument.store.importers.read import read_results

selenium = pytest.importorskip("selenium")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">"
QUESTION = "max=output_throughput&x=ttft%3Ap95&y=output_throughput&log="


def point(name: str, concurrency: int, repeat: int, **changes) -> Point:
    slow = 1.0 if name == "vllm" else 1.6
    wobble = 1 + 0.05 * repeat
    fields = {
        "id": f"{name}-{concurrency}-{repeat}",
        "study": "sweep",
        "date": "2026-01-01T00:00:00Z",
        "engine": name,
        "engine_version": "1.0",
        "model": "org/model-7b",
        "hardware": "CPU x4",
        "strategies": ("continuous batching",) if name == "sixfold" else (),
        "config": {"max_num_seqs": 64 if name == "vllm" else 32, "dtype": "bf16"},
        "command": f"{name} serve org/model-7b",
        "workload": {"name": "chat"},
        "load": {"concurrency": concurrency},
        "repeat": repeat,
        "values": {
            "ttft:p95": 0.02 * concurrency * wobble * slow,
            "tpot:p95": (0.01 + 0.001 * concurrency) * slow,
            "output_throughput": 40 * concurrency**0.7 / slow * wobble,
        },
        "commit": "abc123",
    }
    return Point(**(fields | changes))


def sweep() -> list[Point]:
    points = [
        point(engine, concurrency, repeat)
        for engine in ("vllm", "sixfold")
        for concurrency in (1, 2, 4, 8, 16, 32)
        for repeat in range(3)
    ]
    failed = {"status": "out_of_memory", "reason": HOSTILE, "values": {}}
    points.append(point("vllm", 64, 0, **failed))
    points.append(point("sixfold", 64, 0, id=HOSTILE, origin=HOSTILE, source="imported"))
    return points


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no Chromium with its driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    downloads = tmp_path_factory.mktemp("downloads")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options=options, service=Service(driver))
    running.downloads = downloads
    yield running
    running.quit()


@pytest.fixture
def page(browser, tmp_path):
    """Opens the page of the sweep at a fragment; afterwards the console must be empty."""
    path = tmp_path / "page.html"
    write_page(sweep(), path, "explorer")
    show(browser, 1400, "light")

    def open_at(fragment: str):
        browser.get("about:blank")
        browser.get(f"{path.as_uri()}#{fragment}" if fragment else path.as_uri())
        return browser

    yield open_at
    assert browser.get_log("browser") == []
    assert browser.title == "explorer"


def show(browser, width: int, scheme: str, height: int = 1300) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


def find(browser, css: str):
    return browser.find_element("css selector", css)


def count(browser, css: str) -> int:
    return len(browser.find_elements("css selector", css))


def set_value(browser, css: str, value: str) -> None:
    script = (
        "const n = document.querySelector(arguments[0]); n.value = arguments[1];"
        "n.dispatchEvent(new Event('change'))"
    )
    browser.execute_script(script, css, value)


def click(browser, css: str) -> None:
    browser.execute_script("document.querySelector(arguments[0]).click()", css)


def shot(browser, name: str) -> None:
    folder = os.environ.get("SIXFOLD_SHOTS")
    if folder:
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def test_it_loads_and_asks_in_words(page):
    browser = page("")
    text = find(browser, "#sentence").text
    assert text.startswith("Maximise output throughput with TTFT p95 < ")
    assert count(browser, "#chart .dot") + count(browser, "#chart .star") == 13
    assert count(browser, "#chart .failure") == 1
    assert count(browser, "#chart .whisker") == 24
    assert count(browser, "#chart .region") == 1
    shot(browser, "sweep-light")


def test_a_budget_changes_the_best_and_has_a_price(page):
    browser = page(QUESTION)
    assert "concurrency 32" in find(browser, "#best").text
    browser = page(QUESTION + "&b=ttft%3Ap95%3C0.4~ms")
    assert find(browser, "#sentence").text.endswith("with TTFT p95 < 400 ms.")
    assert "concurrency 16" in find(browser, "#best").text
    assert "%" in find(browser, "#prices .cost").text
    set_value(browser, "#budget-0", "100")
    assert "concurrency 4" in find(browser, "#best").text
    set_value(browser, "#budget-0", "1")
    assert "No point meets all budgets" in find(browser, "#best").text
    assert "with it nothing fits" in find(browser, "#prices").text


def test_repeats_show_their_median(page):
    browser = page(QUESTION + "&b=ttft%3Ap95%3C0.4~ms")
    want = round(40 * 16**0.7 * 1.05)
    assert find(browser, "#best .big").text == f"{want} tok/s"
    assert "3 repeats" in find(browser, "#best").text


def test_filters_narrow_chart_and_table(page):
    browser = page(QUESTION)
    before = count(browser, ".points tbody tr")
    click(browser, "[id='o-engine-sixfold']")
    assert count(browser, ".points tbody tr") == 7 < before == 14
    assert "f.engine=sixfold" in browser.current_url
    click(browser, "#reset")
    assert count(browser, ".points tbody tr") == 14


def test_two_points_are_compared(page):
    browser = page(QUESTION)
    boxes = browser.find_elements("css selector", ".points tbody input")
    names = [b.get_attribute("id") for b in boxes]
    labels = [b.get_attribute("aria-label") for b in boxes]
    for want in ("Compare vllm 1.0, concurrency 8", "Compare sixfold 1.0, concurrency 8"):
        click(browser, f"#{names[labels.index(want)]}")
    text = find(browser, "#pair").text
    assert "max_num_seqs" in text and "64" in text and "32" in text
    assert "dtype" not in text  # the same on both sides
    assert "+60.0 %" in text and "−37.5 %" in text
    shot(browser, "compare")


def test_details_show_provenance_and_hostile_text_as_text(page):
    browser = page(QUESTION)
    click(browser, "[id='o-source-imported']")
    click(browser, ".points tbody button")
    text = find(browser, "#details").text
    assert HOSTILE in text and "abc123" in text and "imported, not measured here" in text
    assert count(browser, "img") == 0
    click(browser, "#reset")
    browser.execute_script(
        "document.querySelector('.failure').dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    assert HOSTILE in find(browser, "#details .alert").text


def test_a_link_restores_what_was_chosen(page):
    browser = page(QUESTION)
    click(browser, "[id='o-engine-vllm']")
    click(browser, "#add-budget")
    set_value(browser, "#colour", "hardware")
    click(browser, "#log-y")
    click(browser, ".points tbody button")
    fragment = browser.current_url.partition("#")[2]
    sentence, details = find(browser, "#sentence").text, find(browser, "#details").text
    browser = page(fragment)
    assert find(browser, "#sentence").text == sentence and details
    assert find(browser, "#details").text == details
    assert find(browser, "#log-y").is_selected()
    assert find(browser, "#colour").get_attribute("value") == "hardware"
    assert count(browser, ".points tbody tr") == 7


def give(browser, path: Path, by: str) -> None:
    """Hand the page a file: by its file input, or dropped on it."""
    if by == "input":
        find(browser, "#files").send_keys(str(path))
        return
    script = (
        "const d = new DataTransfer(); d.items.add(new File([arguments[0]], 'dropped.json'));"
        "document.dispatchEvent(new DragEvent('drop', {dataTransfer: d, bubbles: true}))"
    )
    browser.execute_script(script, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("shape", "by"), [("lines", "input"), ("array", "input"), ("lines", "drop")]
)
def test_files_can_be_added(page, tmp_path, shape, by):
    import msgspec

    browser = page(QUESTION)
    more = [point("llamacpp", c, 0) for c in (1, 2)]
    encoded = [msgspec.json.encode(p).decode() for p in more]
    path = tmp_path / "more.json"
    path.write_text("\n".join(encoded) if shape == "lines" else f"[{','.join(encoded)}]")
    give(browser, path, by)
    wait(lambda: "Added 2 points" in find(browser, "#message").text)
    assert count(browser, ".points tbody tr") == 16


@pytest.mark.parametrize("name", sorted(ALL))
def test_other_tools_results_are_recognised_with_the_command_to_paste(page, tmp_path, name):
    browser = page(QUESTION)
    path = tmp_path / "a b's.json"
    path.write_text(json.dumps(ALL[name]))
    assert read_results(path), "it is what `sixfold import` reads"
    give(browser, path, "input")
    wait(lambda: f"is a result of {name.partition(' (')[0]}" in find(browser, "#message").text)
    (command,) = [code.text for code in browser.find_elements("css selector", "#message code")]
    words = shlex.split(command)
    assert words[:5] == ["sixfold", "import", "a b's.json", "--store", "results.db"]
    assert words[5:] == ["&&", "sixfold", "explore", "results.db", "-o", "explorer.html"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("config.max_num_seqs", "max num seqs (setting)"),
        ("config.cache", "cache (setting)"),
        ("telemetry.engine_cpu_cores", "engine cpu cores (telemetry)"),
        ("workload.config.count", "count"),
    ],
)
def test_any_number_of_a_point_is_an_axis(page, tmp_path, name, words):
    import msgspec

    browser = page(QUESTION)
    own = [
        point(
            engine,
            1,
            0,
            id=f"own-{engine}",
            model="own",
            config={"max_num_seqs": seqs, "cache": "256", "dtype": "bf16", "eager": True},
            workload={"name": "chat", "config": {"count": 20}},
            telemetry={"engine_cpu_cores": 1.5, "notes": ["none"]},
        )
        for engine, seqs in (("vllm", 64), ("sixfold", 32))
    ]
    path = tmp_path / "own.jsonl"
    path.write_bytes(b"\n".join(map(msgspec.json.encode, own)))
    give(browser, path, "input")
    wait(lambda: "Added 2 points" in find(browser, "#message").text)
    click(browser, "[id='o-model-own']")
    set_value(browser, "#axis-x", name)
    assert find(browser, "#axis-x").get_attribute("value") == name
    assert find(browser, f"#axis-x option[value='{name}']").text == words
    assert count(browser, "#chart .dot") + count(browser, "#chart .star") == 2
    for no_number in ("config.dtype", "config.eager", "telemetry.notes"):
        assert count(browser, f"#axis-x option[value='{no_number}']") == 0


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("kv_usage", "min"),
        ("telemetry.engine_kv_cache_usage_max_fraction", "min"),
        ("telemetry.engine_acceptance_fraction", "max"),
        ("chat/ttft:p95", "min"),
        ("acceptance_rate", "max"),
        ("preemptions", "min"),
    ],
)
def test_directions_are_those_of_the_metrics_table(page, tmp_path, name, direction):
    browser = page(QUESTION)
    inner = name.partition(".")[2]
    numbers = {"telemetry": {inner: 0.5}} if inner else {"values": {name: 0.5}}
    path = tmp_path / "one.jsonl"
    fields = {"id": "x", "engine": "e", "model": "m", "date": "d"}
    path.write_text(json.dumps(fields | numbers))
    give(browser, path, "input")
    wait(lambda: "Added 1 point." in find(browser, "#message").text)
    set_value(browser, "#objective", name)
    assert find(browser, "#direction").get_attribute("value") == direction


def test_names_of_javascript_itself_are_only_names(page, tmp_path):
    browser = page(QUESTION)
    odd = {"__proto__": 1.0, "constructor": 2.0, "toString:p95": 3.0}
    fields = {"id": "x", "engine": "__proto__", "model": "constructor", "date": "d"}
    path = tmp_path / "odd.jsonl"
    path.write_text(json.dumps(fields | {"values": odd, "config": odd, "load": odd}) + "\n")
    give(browser, path, "input")
    wait(lambda: "Added 1 point." in find(browser, "#message").text)
    set_value(browser, "#axis-x", "__proto__")
    set_value(browser, "#axis-y", "constructor")
    assert count(browser, "#chart .dot") == 1


def test_a_client_at_its_limit_is_called_out(page, tmp_path):
    import msgspec

    browser = page(QUESTION)
    bound = point("bound", 1, 0, client={"client_bound": True})
    path = tmp_path / "bound.jsonl"
    path.write_bytes(msgspec.json.encode(bound))
    give(browser, path, "input")
    wait(lambda: "Added 1 point." in find(browser, "#message").text)
    click(browser, "[id='o-engine-bound']")
    click(browser, ".points tbody button")
    assert "the client, not the server" in find(browser, "#details").text


def test_the_published_points_make_a_page(browser, tmp_path):
    path = tmp_path / "published.html"
    write_page(published_points(), path, "Published measurements")
    for width, scheme, height in (
        (1400, "light", 1300),
        (1400, "dark", 1300),
        (500, "light", 2400),
    ):
        show(browser, width, scheme, height)
        browser.get("about:blank")
        browser.get(path.as_uri())
        assert "published, not measured here" in find(browser, "#best").text
        assert "derived value" in find(browser, "#best").text
        shot(browser, f"published-{scheme}-{width}")
    assert "of 2,5" in find(browser, "#count").text
    assert browser.get_log("browser") == []


def test_a_bad_file_is_named_with_its_line(page, tmp_path):
    browser = page(QUESTION)
    path = tmp_path / "bad.jsonl"
    good = '{"id": "x", "engine": "e", "model": "m", "date": "d"}'
    path.write_text(f'{good}\n{{"id": "y", "engine": "e", "model": 3, "date": "d"}}\n')
    find(browser, "#files").send_keys(str(path))
    wait(lambda: "bad.jsonl, line 2" in find(browser, "#message").text)
    assert "Nothing was added" in find(browser, "#message").text
    assert count(browser, ".points tbody tr") == 14


def test_downloads_hold_what_is_shown(page):
    browser = page(QUESTION)
    click(browser, "[id='o-engine-vllm']")
    for kind in ("json", "csv"):
        find(browser, f"#save-{kind}").click()  # a second download needs a person's click
        wait((browser.downloads / f"points.{kind}").exists)
    points = json.loads((browser.downloads / "points.json").read_text(encoding="utf-8"))
    assert len(points) == 19 and {p["engine"] for p in points} == {"vllm"}
    lines = (browser.downloads / "points.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 20 and "ttft:p95" in lines[0]


def test_the_keyboard_reaches_points_and_sorting(page):
    from selenium.webdriver.common.keys import Keys

    browser = page(QUESTION)
    find(browser, "#chart").send_keys(Keys.ARROW_RIGHT)
    spoken = find(browser, "#spoken").get_attribute("textContent")
    assert "vllm 1.0, concurrency 1" in spoken
    find(browser, "#chart").send_keys(Keys.ENTER)
    assert find(browser, "#details").is_displayed()
    button = find(browser, "[id='sort-ttft:p95']")
    button.send_keys(Keys.ENTER)
    order = "//th[.//button[@id='sort-ttft:p95']]"
    assert browser.find_element("xpath", order).get_attribute("aria-sort") == "ascending"
    focused = browser.switch_to.active_element.get_attribute("id")
    assert focused == "sort-ttft:p95"  # redrawing keeps the focus


def test_dark_light_and_a_narrow_window(page):
    browser = page(QUESTION)
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(ground)
    show(browser, 500, "dark", 2400)
    browser = page(QUESTION + "&b=ttft%3Ap95%3C0.4~ms")
    assert browser.execute_script(ground) != light
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= 500
    shot(browser, "sweep-dark-500")
    click(browser, "#theme")
    assert browser.execute_script(ground) == light


def test_every_control_has_a_name(page):
    browser = page(QUESTION + "&b=ttft%3Ap95%3C0.4~ms")
    script = (
        "return [...document.querySelectorAll('button, select, input:not([hidden])')].filter((n) =>"
        " !(n.getAttribute('aria-label') || n.textContent.trim() || n.closest('label')))"
        ".map((n) => n.outerHTML)"
    )
    assert browser.execute_script(script) == []


def wait(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
