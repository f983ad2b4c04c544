"""Where two prompts part that go on alike: the differing spans, what kind each is, what follows.

Pure, of bounded work for any two texts. A span counts only if both texts are the same again behind
it, within SPAN characters and for RUN of them: prompts that part for good have no such span.
Not here: which prompts are compared, and sums (layout).
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

SPAN = 400
"""Characters that a span may have in either text."""
RUN = 64
"""Characters that must be alike behind a span."""
STEPS = 24
"""Spans of one pair that are looked at."""
CONTEXT = 48
"""Characters on either side that tell what a span is a part of."""
_SEED = 24
"""Characters by which two texts are seen to be the same again."""
_TRIES = 16
_OBJECT = 20_000
"""Characters before a difference within which its JSON object may begin."""
_OBJECTS = 8

TIME = "timestamp"
ID = "id"
NUMBER = "number"
KEYS = "JSON key order"
SPACE = "white space"
USER = "user"
OTHER = "other text"

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_KINDS = (
    (ID, r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"),
    (
        TIME,
        r"\b\d{4}-\d\d-\d\d(?:[t ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?)?(?:z|\s?utc|[+-]\d\d:?\d\d)?"
        r"|\b\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:\s?[ap]\.?m\b)?"
        r"|\b\d{1,2}[/.]\d{1,2}[/.]\d{2,4}\b|\b\d{4}/\d{1,2}/\d{1,2}\b"
        rf"|\b{_MONTH}\s\d{{1,2}}(?:st|nd|rd|th)?\b(?:,?\s\d{{4}}\b)?"
        rf"|\b\d{{1,2}}(?:st|nd|rd|th)?\s{_MONTH}(?:,?\s\d{{4}}\b)?"
        r"|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b"
        r"|\b1[4-9]\d{8}(?:\d{3}|\d{6}|\d{9})?(?:\.\d{1,9})?\b",
    ),
    (
        ID,
        r"\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}\b|\b(?=[a-z]*\d)(?=\d*[a-z])[0-9a-z]{16,}\b"
        r"|\b[a-z]{1,12}[_-](?=[a-z]*\d)[0-9a-z]{6,}\b",
    ),
    (NUMBER, r"\d+(?:[.,]\d+)*"),
)
_MASKS = tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _KINDS)
_IN_DATES = re.compile(rf"\b(?:{_MONTH}|at|on)\b", re.IGNORECASE)
_USER = re.compile(
    r"\b(?:user|username|name|customer|client|account|employee|tenant|member|patient|email|login"
    r"|hello|hi|dear|assisting|helping|talking to|speaking with|chatting with)"
    r"(?:[ _]?(?:id|name|number|no))?[\"']?[ :=,#]{0,3}[\"']?\Z",
    re.IGNORECASE,
)
_WORD = re.compile(r"\S+")
_BRACE = re.compile(r"[{}]")
_DECODE = json.JSONDecoder(strict=False).raw_decode


class Divergence(NamedTuple):
    """One span in the second text, and what both share because of what could be done about it."""

    kind: str
    start: int
    """Where it begins."""
    shared: tuple[int, int]
    """From where to where the second text would be shared if the span were behind it, or the same
    in both."""
    before: str
    """The text before it on its line, cut."""
    here: str
    """The span."""
    there: str
    """What the first text has in its place."""
    after: str


def alike(a: str, b: str, i: int = 0, j: int = 0) -> int:
    """How many characters the texts share from those places on."""
    if i or j:
        a, b = a[i:], b[j:]
    low, high = 0, min(len(a), len(b))
    step = 64
    while low < high and a[low : low + step] == b[low : low + step]:
        low += step
        step *= 2
    low, high = min(low, high), min(low + step, high)
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def place_of(before: str) -> str:
    """What the text before a span says of its place: the last words that are no part of a value."""
    text = re.sub(r"\S+\Z", "", before)
    for _, pattern in _MASKS:
        text = pattern.sub(" ", text)
    return " ".join(re.findall(r"[^\W\d_]+", _IN_DATES.sub(" ", text))[-2:]).lower()


def divergences(a: str, b: str) -> Iterator[Divergence]:
    """The spans in which `b` differs from `a`, from the first, until they part for good."""
    i = j = alike(a, b)
    for _ in range(STEPS):
        if i >= len(a) or j >= len(b):
            return
        found = _white_space(a, b, i, j) or _key_order(a, b, i, j) or _span(a, b, i, j)
        if found is None:
            return
        divergence, i, j = found
        yield divergence


Found = tuple[Divergence, int, int]
"""A span, and where in both texts the next difference is."""


def _white_space(a: str, b: str, i: int, j: int) -> Found | None:
    """Only blanks and line ends differ, for a while."""
    if not (a[i].isspace() or b[j].isspace()):
        return None
    same = alike("".join(a[i:].split()), "".join(b[j:].split()))
    if same < RUN:
        return None
    over_a, over_b = _over(a, i, same), _over(b, j, same)
    return _made(SPACE, (a, b), (i, i + 1), (j, j + 1), (j, over_b)), over_a, over_b


def _over(text: str, start: int, count: int) -> int:
    """The place behind so many characters that are no white space."""
    for word in _WORD.finditer(text, start):
        if count <= len(word[0]):
            return word.start() + count
        count -= len(word[0])
    return len(text)


def _key_order(a: str, b: str, i: int, j: int) -> Found | None:
    """The difference is in a JSON object that has the same keys in another order."""
    for back in _open_braces(a, i, alike_before(a, b, i, j)):
        one, two = _decoded(a, i - back), _decoded(b, j - back)
        if one is None or two is None or not _reordered(one[0], two[0]):
            continue
        first, second = _sorted(one[0]), _sorted(two[0])
        if first == second:
            run = alike(a, b, one[1], two[1])
            over = one[1] + run, two[1] + run
        else:
            part = alike(first, second) / max(1, len(second))
            over = len(a), max(j, j - back + round(part * (two[1] - j + back)))
        if over[1] - j < RUN:
            return None
        return _made(KEYS, (a, b), (i, one[1]), (j, two[1]), (j, over[1])), over[0], over[1]
    return None


def alike_before(a: str, b: str, i: int, j: int) -> int:
    """How many characters before those places are the same, up to what is looked at."""
    most = min(i, j, _OBJECT)
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[i - middle : i] == b[j - middle : j] else (low, middle - 1)
    return low


def _open_braces(text: str, end: int, most: int) -> list[int]:
    """How far before `end` objects begin that are still open there, the outermost first."""
    found: list[int] = []
    depth = 0
    for brace in reversed([*_BRACE.finditer(text, end - most, end)]):
        if brace[0] == "}":
            depth += 1
        elif depth:
            depth -= 1
        else:
            found.append(end - brace.start())
    return found[: -_OBJECTS - 1 : -1]


def _decoded(text: str, start: int) -> tuple[Any, int] | None:
    try:
        return _DECODE(text, start)
    except (ValueError, RecursionError):
        return None


def _reordered(one: Any, two: Any) -> bool:
    """Some object in both has the same keys in another order."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return list(one) != list(two) or any(_reordered(one[key], two[key]) for key in one)
    if isinstance(one, list) and isinstance(two, list):
        return any(map(_reordered, one, two))
    return False


def _sorted(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _span(a: str, b: str, i: int, j: int) -> Found | None:
    """Something short differs."""
    again = _same_again(a, b, i, j)
    if again is None:
        return None
    x, y, run = again
    kind = _kind((a, i, x), (b, j, y))
    over = x + run, y + run
    return _made(kind, (a, b), (i, x), (j, y), (y, over[1])), over[0], over[1]


def _same_again(a: str, b: str, i: int, j: int) -> tuple[int, int, int] | None:
    """Where both are the same again with the least left out, and for how many characters."""
    ahead: dict[str, int] = {}
    for x in range(min(SPAN, len(a) - i - _SEED) + 1):
        ahead.setdefault(a[i + x : i + x + _SEED], x)
    met = []
    for y in range(min(SPAN, len(b) - j - _SEED) + 1):
        x = ahead.get(b[j + y : j + y + _SEED], -1)
        if x >= 0:
            met.append((x + y, x, y))
    passed: set[int] = set()
    for _, x, y in sorted(met):
        if x - y in passed:
            continue
        run = alike(a, b, i + x, j + y)
        if run >= RUN:
            return i + x, j + y, run
        passed.add(x - y)
        if len(passed) >= _TRIES:
            break
    return None


def _kind(one: tuple[str, int, int], two: tuple[str, int, int]) -> str:
    """What a span is, by what it and the text around it look like in both prompts."""
    first, second = _around(*one), _around(*two)
    seen = []
    for kind, pattern in _MASKS:
        values = pattern.findall(first), pattern.findall(second)
        first, second = pattern.sub("\1", first), pattern.sub("\1", second)
        if values[0] != values[1]:
            seen.append(kind)
    kind = seen[0] if seen and first == second else OTHER
    text, start, _ = two
    while start and text[start - 1].isalnum():
        start -= 1
    if kind in (NUMBER, OTHER) and _USER.search(text[max(0, start - CONTEXT) : start]):
        return USER
    return kind


def _around(text: str, start: int, end: int) -> str:
    """A span with what is next to it on its line."""
    left = max(text.rfind("\n", 0, start) + 1, start - CONTEXT)
    right = text.find("\n", end, end + CONTEXT)
    return text[left : right if right >= 0 else end + CONTEXT]


def _made(
    kind: str,
    texts: tuple[str, str],
    there: tuple[int, int],
    here: tuple[int, int],
    shared: tuple[int, int],
) -> Divergence:
    a, b = texts
    start, end = here
    left = max(b.rfind("\n", 0, start) + 1, start - CONTEXT)
    return Divergence(
        kind=kind,
        start=start,
        shared=shared,
        before=b[left:start],
        here=b[start : min(end, start + SPAN)],
        there=a[there[0] : min(there[1], there[0] + SPAN)],
        after=b[end : end + CONTEXT],
    )
