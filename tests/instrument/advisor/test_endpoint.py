"""Looking at servers through real sockets: honest pages, broken ones, restarts, replicas."""

import pytest

from instrument.advisor.pages import Answer, metrics, page, server
from sixfold.core.errors import ConfigError
from sixfold.core.slo import parse_slo
from sixfold.instrument.advisor import endpoint
from sixfold.instrument.advisor.advice import of_windows
from sixfold.instrument.advisor.endpoint import Replica, look
from sixfold.instrument.advisor.words import lines

SLO = parse_slo("ttft:p95<1s;itl:p95<100ms")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "PERIOD", 0.01)
    monkeypatch.setattr(endpoint, "TIMEOUT", 1.0)
    monkeypatch.setattr(endpoint, "LEAST_READINGS", 8)


def seen(*answers: Answer, extra: dict[str, int] | None = None) -> list[str]:
    """The advice on servers that answer like this: state, causes, notes."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        urls = [stack.enter_context(server(answer)) for answer in answers]
        windows = look([Replica(url) for url in urls], 0.05)
        advice = of_windows(windows, SLO, dict(extra or {}))
    assert list(lines(advice))
    causes = [cause.symptom for cause in advice.causes]
    return [advice.state, *causes, advice.why, *advice.notes]


def test_a_healthy_server_is_left_alone() -> None:
    assert seen(metrics(page))[0] == "healthy"


def test_a_queue_with_room_is_told_once_the_slots_are_known() -> None:
    full = metrics(lambda n: page(n, waiting=9, running=4, late=True))
    abstained = seen(full)
    assert abstained[0] == "abstained" and "queue although kv cache" in abstained[1]
    assert seen(full, extra={"max_num_seqs": 4})[:2] == ["found", "batch-capped"]
    assert seen(full, extra={"max_num_seqs": 64})[0] == "abstained", "and it is not that"


def test_a_full_cache_is_told_from_a_queue() -> None:
    blocked = metrics(lambda n: page(n, waiting=9, kv=0.97, late=True))
    assert seen(blocked)[:2] == ["found", "kv-blocked"]


def test_the_lifetime_before_the_look_counts_nothing() -> None:
    """A thousand late requests from before: only what happens now is judged."""

    def later(n: int) -> bytes:
        old = page(1000, late=True).decode()
        new = page(n).decode()
        rows = zip(old.splitlines(), new.splitlines(), strict=True)
        told = []
        for before, now in rows:
            name, _, a = before.rpartition(" ")
            _, _, b = now.rpartition(" ")
            counter = "_total" in name or "_bucket" in name or "_sum" in name or "_count" in name
            told.append(f"{name} {float(a) + float(b) if counter else float(b)}")
        return ("\n".join(told) + "\n").encode()

    assert seen(metrics(later))[0] == "healthy"


def test_a_restart_is_said_and_what_was_counted_is_left_out() -> None:
    def reset(n: int) -> bytes:
        return page(100 + n, late=True) if n < 4 else page(n, late=True)

    found = seen(metrics(reset))
    assert found[0] == "abstained"
    assert any("restarted" in text for text in found)


def test_an_idle_server_tells_nothing() -> None:
    found = seen(metrics(lambda _n: page(5)))
    assert found[0] == "abstained" and "nothing was generated" in found[1]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>not here</html>", b"\xff\xfe\x00" * 100, b"a{b=\"" * 1000,
        b"vllm:num_requests_running NaN\n", b"vllm:num_requests_running 1e999\n" * 3,
        b"other_metric 1\n", b"vllm:num_requests_running -5\nvllm:kv_cache_usage_perc 7e30\n",
        b"vllm:num_requests_waiting 1\n" * 50_000,
    ],
)  # fmt: skip
def test_broken_pages_bring_a_clear_line_and_no_advice(body: bytes) -> None:
    found = seen(metrics(lambda _n: body))
    assert found[0] == "abstained" and found[1]


def test_servers_that_are_not_there_or_refuse() -> None:
    assert "404" in " ".join(seen(lambda _path, _n: (404, b"")))
    windows = look([Replica("http://127.0.0.1:9")], 0.01)
    assert "does not answer" in windows[0].notes[0]
    for wrong in ("", "ftp://x", "127.0.0.1:8000"):
        with pytest.raises(ConfigError):
            Replica(wrong)


def test_a_replica_that_is_half_up_keeps_all_from_being_judged() -> None:
    late = metrics(lambda n: page(n, waiting=9, running=4, late=True))
    flaky: Answer = lambda path, n: (503, b"") if n % 2 else (200, page(n))  # noqa: E731
    found = seen(late, flaky)
    assert found[0] == "abstained" and "1 of 2 replicas" in found[1]


def test_load_on_one_replica_only_is_told() -> None:
    busy = metrics(lambda n: page(n, waiting=20, running=4, late=True))
    for idle in (lambda n: page(n, running=0), lambda _n: page(7, running=0)):
        assert seen(busy, metrics(idle))[:2] == ["found", "replica-imbalance"]


def test_unlike_engines_are_not_mixed() -> None:
    other = metrics(lambda _n: b"sglang:num_running_reqs 1\nsglang:num_queue_reqs 0\n")
    found = seen(metrics(page), other)
    assert found[0] == "abstained" and "different engines" in found[1]


def test_versions_and_settings_are_asked_where_the_page_does_not_tell() -> None:
    def llama(path: str, _n: int) -> tuple[int, bytes]:
        if path == "/props":
            return 200, b'{"total_slots": 4, "n_ctx": {"nested": 1}, "other": "x"}'
        return 200, b"llamacpp:requests_processing 1\nllamacpp:requests_deferred 0\n"

    with server(llama) as url:
        (window,) = look([Replica(url)], 0.01)
    assert window.engine == "llamacpp" and window.settings == {"total_slots": 4}

    def newer(path: str, n: int) -> tuple[int, bytes]:
        return (200, b'{"version": "9.9.9"}') if path == "/version" else (200, page(n))

    found = seen(newer)
    assert any("this is vllm 9.9.9; tested with 0.32.0" in text for text in found)
    assert any("vllm tells no version; tested with" in text for text in seen(metrics(page)))
