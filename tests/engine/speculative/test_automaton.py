"""The suffix automaton against a search through the whole text."""

from hypothesis import given
from hypothesis import strategies as st

from sixfold.engine.speculative.automaton import START, SuffixAutomaton

texts = st.lists(st.integers(0, 2), max_size=40)


def longest_suffix(tokens: list[int], text: list[int]) -> int:
    """Tokens of the longest suffix of `tokens` that is anywhere in `text`."""
    for n in range(len(tokens), 0, -1):
        if any(text[i : i + n] == tokens[-n:] for i in range(len(text) - n + 1)):
            return n
    return 0


@given(texts)
def test_append_finds_the_longest_suffix_that_was_there_before(tokens):
    automaton = SuffixAutomaton()
    for count, token in enumerate(tokens, 1):
        place = automaton.append(token)
        before = tokens[: count - 1]
        # It may overlap with itself, but must have ended earlier.
        matched = max(
            (n for n in range(count) if any(
                tokens[i : i + n] == tokens[count - n : count] for i in range(count - n)
            )),
            default=0,
        )  # fmt: skip
        assert place[1] == matched
        if matched:
            end = automaton.end(place)
            assert 0 < end <= len(before)
            assert tokens[end - matched : end] == tokens[count - matched : count]
        automaton.seen(place, count)


@given(texts, texts, texts)
def test_step_follows_another_text_while_this_one_grows(first, second, other):
    automaton, place = SuffixAutomaton(), START
    automaton.extend(first)
    for count, token in enumerate(other, 1):
        place = automaton.step(place, token)
        # What is matched may become longer as the text grows, but is followed from here on only.
        assert place[1] <= longest_suffix(other[:count], automaton.text)
        if place[1]:
            end = automaton.end(place)
            assert automaton.text[end - place[1] : end] == other[count - place[1] : count]
        if second:
            automaton.append(second.pop())


@given(texts, texts)
def test_step_finds_the_longest_suffix_in_a_text_that_stays(text, other):
    automaton, place = SuffixAutomaton(), START
    automaton.extend(text)
    for count, token in enumerate(other, 1):
        place = automaton.step(place, token)
        assert place[1] == longest_suffix(other[:count], text)
