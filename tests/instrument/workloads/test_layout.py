"""The prompt-layout check: what is planted is found, by its kind and its cost; nothing else is."""

import json
import uuid
from functools import partial
from itertools import pairwise
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sixfold.instrument.workloads import divergence, layout
from sixfold.instrument.workloads.divergence import alike, divergences
from sixfold.instrument.workloads.layout import check_layout, layout_loss
from sixfold.instrument.workloads.words import WORDS

FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def prose(rng: Random, words: int) -> str:
    """Sentences of random words: pieces of them don't come twice by chance."""
    return " ".join(rng.choice(WORDS) + ("." if rng.random() < 0.1 else "") for _ in range(words))


FORMS = (
    "2026-{:02d}-{:02d}T{:02d}:{:02d}:{:02d}Z",
    "2026-{:02d}-{:02d} {:02d}:{:02d}:{:02d}.123",
    "{:02d}/{:02d}/2026, {:d}:{:02d}:{:02d} PM",
    "{day}, Nov {1}, 2026 at {2:02d}:{3:02d}",
    "{1} November 2026",
    "17{0:02d}{1:02d}{2:02d}{3:02d}",
)


def stamp(rng: Random, form: str = FORMS[0]) -> str:
    parts = [rng.randint(1, 12), rng.randint(1, 28), rng.randint(1, 12)]
    return form.format(
        *parts, rng.randint(0, 59), rng.randint(0, 59), day=rng.choice(("Monday", "Friday"))
    )


NAMES = ("Alice", "Bob", "Carol Diaz", "Erika", "Faisal", "Grace Hopper", "Ida")


def hexadecimal(rng: Random) -> str:
    return f"a{rng.getrandbits(120):030x}7"


PLANTS = {
    "timestamp": ("Current time: ", stamp),
    "id": ("Request ", lambda rng: str(uuid.UUID(int=rng.getrandbits(128) | 1 << 127, version=4))),
    "number": ("This is call ", lambda rng: str(rng.randint(1, 9999))),
    "user": ("You are talking to ", lambda rng: rng.choice(NAMES)),
}


@FEW
@given(
    st.sampled_from(sorted(PLANTS)), st.integers(0, 1 << 32), st.integers(0, 80),
    st.integers(80, 400), st.integers(12, 40),
)  # fmt: skip
def test_what_is_planted_is_found_with_its_kind_and_its_cost(kind, seed, ahead, behind, count):
    rng = Random(seed)
    label, value = PLANTS[kind]
    head, shared = prose(rng, ahead), prose(rng, behind)
    if kind == "timestamp":
        value = partial(stamp, form=rng.choice(FORMS))
    values = [value(rng) for _ in range(count)]
    prompts = [
        f"{head}\n{label}{planted}\n{shared}\n\nQuestion: {prose(rng, 12)}?" for planted in values
    ]
    found = check_layout(prompts)
    assert [f.kind for f in found.findings] == [kind]
    finding = found.findings[0]
    # Only a value that no earlier prompt had costs anything.
    costly = len(set(values)) - 1
    assert finding.requests == costly
    assert finding.loss_per_request == pytest.approx(len(shared) / 4, rel=0.1, abs=12)
    assert finding.loss == pytest.approx(costly * len(shared) / 4, rel=0.1, abs=12 * costly)
    assert finding.position == pytest.approx(len(head + label) / 4, abs=10)
    assert "[[" in finding.example and "\n" not in finding.example and finding.advice


@FEW
@given(st.integers(0, 1 << 32), st.booleans())
def test_json_keys_in_another_order(seed, differ):
    """`differ`: the last value differs, too, which no order of keys can mend."""
    rng = Random(seed)
    fields = {word: prose(rng, 12) for word in rng.sample(WORDS, 12)} | {"zone": "same"}
    shared = prose(rng, 200)
    prompts = []
    for number in range(16):
        keys = list(fields)
        rng.shuffle(keys)
        values = fields | ({"zone": f"{number} {prose(rng, 3)}"} if differ else {})
        prompts.append(f"Settings: {json.dumps({key: values[key] for key in keys})}\n{shared}")
    found = check_layout(prompts)
    kinds = [f.kind for f in found.findings]
    assert kinds[:1] == ["JSON key order"]
    finding = found.findings[0]
    whole = (len(json.dumps(fields)) + (0 if differ else len(shared))) / 4
    assert finding.loss_per_request == pytest.approx(whole, rel=0.35)


@FEW
@given(st.integers(0, 1 << 32))
def test_white_space(seed):
    rng = Random(seed)
    lines = [prose(rng, 10) for _ in range(20)]
    prompts = [rng.choice(["\n", "\r\n", "\n\n", "\n  "]).join(lines) for _ in range(12)]
    found = check_layout(prompts)
    if len(set(prompts)) > 2:
        assert {f.kind for f in found.findings} == {"white space"}
        text = len(" ".join(lines[1:]))
        assert found.findings[0].loss_per_request == pytest.approx(text / 4, rel=0.25)


def test_two_places_are_two_findings():
    rng = Random(3)
    one, two = prose(rng, 100), prose(rng, 200)
    prompts = [f"Now: {stamp(rng)}\n{one}\nRequest {hexadecimal(rng)}\n{two}" for _ in range(20)]
    found = check_layout(prompts).findings
    assert {f.kind for f in found} == {"timestamp", "id"}
    costs = {f.kind: f.loss_per_request for f in found}
    assert costs["timestamp"] == pytest.approx(len(one) / 4, rel=0.15)
    assert costs["id"] == pytest.approx(len(two) / 4, rel=0.15)


@FEW
@given(st.integers(0, 1 << 32), st.integers(2, 30))
def test_prompts_that_share_nothing_have_no_finding(seed, count):
    rng = Random(seed)
    found = check_layout([prose(rng, rng.randint(1, 300)) for _ in range(count)])
    assert found.findings == () and found.lost == 0 and found.shared < 0.05


@FEW
@given(st.integers(0, 1 << 32), st.integers(2, 30))
def test_prompts_that_share_all_they_can_have_none(seed, count):
    rng = Random(seed)
    shared = prose(rng, 300)
    prompts = [f"{shared}\nQuestion: {prose(rng, rng.randint(1, 30))}" for _ in range(count)]
    history = [shared]
    for _ in range(6):
        history.append(history[-1] + f"\nuser\n{prose(rng, 9)}\nassistant\n{prose(rng, 40)}")
    for texts in (prompts, history, [shared] * count, [*prompts, *prompts]):
        found = check_layout(texts)
        assert found.findings == () and found.lost == 0


def test_what_an_earlier_prompt_shares_anyway_costs_nothing():
    """A time in minutes: only the first of each minute loses anything."""
    rng = Random(1)
    shared = prose(rng, 200)
    prompts = [f"Now: 2026-01-31T12:{n // 10:02d}\n{shared}\nQ{n}" for n in range(60)]
    (finding,) = check_layout(prompts).findings
    assert finding.requests == 5


def test_a_span_that_only_some_prompts_have():
    rng = Random(2)
    shared = prose(rng, 200)
    notes = [prose(rng, 12) if n % 2 else "" for n in range(20)]
    prompts = [f"Be brief. {note}\n{shared}\nQ{n}" for n, note in enumerate(notes)]
    found = check_layout(prompts).findings
    assert found and {f.kind for f in found} <= {"other text", "white space"}


def test_a_few_tokens_behind_a_difference_are_not_worth_naming():
    rng = Random(4)
    prompts = [f"Now: {stamp(rng)}\n" + "Answer in one short sentence, please. " * 2] * 20
    assert check_layout(prompts).findings == ()


def test_scripts_without_blanks():
    rng = Random(5)
    shared = "".join(chr(rng.randint(0x4E00, 0x9FFF)) for _ in range(400))
    prompts = [f"{hexadecimal(rng)}。{shared}问题{n}" for n in range(12)]
    (finding,) = check_layout(prompts, chars_per_token=1.5).findings
    assert finding.kind == "id" and finding.loss_per_request == pytest.approx(400 / 1.5, rel=0.1)


def test_the_share_of_all_that_is_lost():
    rng = Random(6)
    shared = prose(rng, 300)
    prompts = [f"Request {hexadecimal(rng)}.\n{shared}\nQuestion {n}?" for n in range(48)]
    found = check_layout(prompts)
    assert layout_loss(prompts) == found.lost == pytest.approx(47 / 48, abs=0.1)
    assert "id: costs" in found.lines() and layout_loss([]) == layout_loss(["a"]) == 0


def test_many_and_long_prompts_are_sampled(monkeypatch):
    monkeypatch.setattr(layout, "MAX_PROMPTS", 200)
    monkeypatch.setattr(layout, "MAX_CHARS", 4096)
    rng = Random(7)
    shared = prose(rng, 200)
    prompts = [f"Now: {stamp(rng)}\n{shared}\n{'x' * 9000}" for _ in range(3000)]
    found = check_layout(prompts)
    assert found.prompts == 3000 and found.checked == 200 and "200 of them" in found.lines()
    (finding,) = found.findings
    # A cut prompt's rest is not known to be shared.
    assert finding.loss == pytest.approx(finding.loss_per_request * finding.requests * 15, rel=0.01)


def test_examples_steer_no_terminal():
    rng = Random(8)
    shared = prose(rng, 100)
    prompts = [f"\x1b[31mNow\r {hexadecimal(rng)}\x07\n{shared}" for _ in range(4)]
    (finding,) = check_layout(prompts).findings
    assert finding.example.isprintable() and "\\x1b" in finding.example


TEXT = st.text(st.sampled_from('ab{}":, \n1') | st.characters(), max_size=120)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, st.sampled_from(["", "q" * 99, '{"a": 1, "b": [2]}' * 9]), TEXT)))
def test_any_texts_have_a_layout(parts):
    prompts = ["".join(part) for part in parts]
    found = check_layout(prompts)
    assert 0 <= found.lost <= 1 and 0 <= found.shared <= 1
    assert all(f.example.isprintable() for f in found.findings) and found.lines()
    for one, two in pairwise(prompts):
        for step in divergences(one, two):
            assert 0 <= step.start <= step.shared[1] <= len(two)
            assert step.shared[0] <= step.shared[1]


@given(st.text("ab", max_size=300), st.text("ab", max_size=300), st.integers(0, 9))
def test_alike_counts_characters(a, b, start):
    count = alike(a, b, start, start)
    assert a[start : start + count] == b[start : start + count]
    after = start + count
    assert a[after : after + 1] != b[after : after + 1] or after >= min(len(a), len(b))


def test_hostile_texts_take_no_time():
    nested = ['{"a":' * 5000, "[" * 20_000, "{" * 20_000, "9" * 30_000, " " * 30_000, "-" * 30_000]
    prompts = [f"{text[: n + 9]}{n}{text}" for text in nested for n in range(4)]
    assert check_layout(prompts).prompts == len(prompts)
    assert divergence.SPAN >= divergence.RUN
