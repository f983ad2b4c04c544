"""Synthetic workloads: random lengths, prefix trees, chats, retrieval, code, agents.

Each is a pure function of a frozen config and a seed. All lengths are in tokens, times in seconds.
Every content comes from a generator keyed by the seed: two seeds share no prompt (but by chance,
for prompts of a few tokens), and within a workload only what its structure says is shared.
Not here: arrival times (arrivals), prompts and traces from files.
"""

from itertools import accumulate
from random import Random
from typing import Annotated

import msgspec

from sixfold.instrument.loadgen.plan import Session, Turn
from sixfold.instrument.workloads.content import (
    Content,
    Count,
    Length,
    Seconds,
    Tokens,
    Units,
    checked,
    draw,
    draw_length,
    fixed,
    make_turn,
    single,
    stream,
    text_of,
)

Small = Annotated[int, msgspec.Meta(ge=1, le=64)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class RandomConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Unrelated prompts of drawn lengths, after a prefix that all share."""

    count: Count = 100
    """Requests."""
    input: Length = fixed(512)
    """Tokens of a prompt, the prefix not counted."""
    output: Length = fixed(128)
    """Tokens of an answer."""
    ratio: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    """Range ratio r: a fixed length n becomes uniform from n(1-r) to n(1+r)."""
    prefix: Tokens = 0
    """Tokens that all prompts begin with."""
    content: Content = Content()


def random_lengths(config: RandomConfig, seed: int) -> list[Session]:
    """`count` single requests. Raises ConfigError for values out of bounds."""
    checked(config)
    content, rng = config.content, stream(seed, "random")
    prefix = draw(content, stream(seed, "random prefix"), config.prefix)
    sessions = []
    for _ in range(config.count):
        size = draw_length(config.input, rng, config.ratio)
        answer = draw_length(config.output, rng, config.ratio)
        sessions.append(single(content, prefix + draw(content, rng, size), answer))
    return sessions


class TreeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Prompts that follow a path of a tree of shared prefixes, then differ."""

    count: Count = 100
    """Requests."""
    depth: Small = 2
    """Levels of shared prefix; level i has branching^(i+1) nodes."""
    branching: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 4
    """Children of each node, and nodes of the first level."""
    lengths: tuple[Tokens, ...] = (256, 128)
    """Tokens of a node by level; the last holds for all deeper levels."""
    share: Share = 1.0
    """Share of requests in the tree; the rest are as long but share nothing."""
    suffix: Length = fixed(64)
    """Tokens of a prompt's own end."""
    output: Length = fixed(128)
    """Tokens of an answer."""
    content: Content = Content()


def prefix_tree(config: TreeConfig, seed: int) -> list[Session]:
    """`count` single requests. Raises ConfigError for values out of bounds."""
    checked(config)
    content, rng = config.content, stream(seed, "tree")
    nodes: dict[tuple[int, ...], Units] = {}
    sessions = []
    for _ in range(config.count):
        path = tuple(rng.randrange(config.branching) for _ in range(config.depth))
        if rng.random() < config.share:
            prefix = _tree_path(config, seed, path, nodes)
        else:
            prefix = draw(content, rng, sum(_level(config, i) for i in range(config.depth)))
        drawn = prefix + draw(content, rng, draw_length(config.suffix, rng))
        sessions.append(single(content, drawn, draw_length(config.output, rng)))
    return sessions


def _level(config: TreeConfig, level: int) -> int:
    return config.lengths[min(level, len(config.lengths) - 1)] if config.lengths else 0


def _tree_path(
    config: TreeConfig, seed: int, path: tuple[int, ...], nodes: dict[tuple[int, ...], Units]
) -> Units:
    """The contents of all nodes down the path; each is drawn once, by its place."""
    parts: list[int] = []
    for level in range(len(path)):
        place = path[: level + 1]
        if place not in nodes:
            nodes[place] = draw(config.content, stream(seed, "node", *place), _level(config, level))
        parts.extend(nodes[place])
    return tuple(parts)


class ChatConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Conversations under one system prompt."""

    count: Count = 20
    """Conversations."""
    turns: Length = fixed(4)
    """Turns of a conversation."""
    system: Tokens = 200
    """Tokens of the system prompt that all conversations share."""
    user: Length = fixed(60)
    """Tokens of a user's message."""
    output: Length = fixed(128)
    """Tokens of an answer."""
    think: Seconds = 0.0
    """Mean seconds from an answer's end to the next message, exponentially drawn."""
    content: Content = Content()


def chat(config: ChatConfig, seed: int) -> list[Session]:
    """`count` conversations. Raises ConfigError for values out of bounds."""
    checked(config)
    content, rng = config.content, stream(seed, "chat")
    system = draw(content, stream(seed, "chat system"), config.system)
    sessions = []
    for _ in range(config.count):
        messages = [
            draw(content, rng, draw_length(config.user, rng))
            for _ in range(draw_length(config.turns, rng))
        ]
        outputs = [draw_length(config.output, rng) for _ in messages]
        thinks = _pauses(rng, config.think, len(messages))
        sessions.append(_conversation(content, system, messages, outputs, thinks))
    return sessions


def _pauses(rng: Random, mean: float, count: int) -> list[float]:
    """Exponential times in seconds; none before the first turn."""
    return [rng.expovariate(1 / mean) if i and mean else 0.0 for i in range(count)]


def _conversation(
    content: Content,
    system: Units,
    messages: list[Units],
    outputs: list[int],
    thinks: list[float],
) -> Session:
    """Text has its system prompt apart; token ids have it at the head of the first turn."""
    if not content.text:
        messages = [system + messages[0], *messages[1:]]
    turns: list[Turn] = [
        make_turn(content, drawn, output, think)
        for drawn, output, think in zip(messages, outputs, thinks, strict=True)
    ]
    return Session(turns=tuple(turns), system=text_of(system) if content.text else "")


class RagConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Questions after documents that a search found: popular ones come often."""

    count: Count = 100
    """Requests."""
    documents: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 100
    """Documents of the corpus."""
    document: Length = fixed(300)
    """Tokens of a document."""
    k: Small = 3
    """Documents of a prompt, all different; at most the corpus."""
    zipf: Annotated[float, msgspec.Meta(ge=0, le=10)] = 1.0
    """The document of rank r comes with weight 1/r^zipf; 0: all alike."""
    sort: bool = False
    """Documents of a prompt in the order of their rank: more prefixes are shared."""
    system: Tokens = 50
    """Tokens of instructions that all prompts begin with."""
    question: Length = fixed(30)
    """Tokens of a question."""
    output: Length = fixed(128)
    """Tokens of an answer."""
    content: Content = Content()


def rag(config: RagConfig, seed: int) -> list[Session]:
    """`count` single requests. Raises ConfigError for values out of bounds."""
    checked(config)
    content, rng = config.content, stream(seed, "rag")
    system = draw(content, stream(seed, "rag system"), config.system)
    weights = list(accumulate((i + 1) ** -config.zipf for i in range(config.documents)))
    corpus: dict[int, Units] = {}
    sessions = []
    for _ in range(config.count):
        chosen = _distinct(rng, weights, min(config.k, config.documents))
        drawn = list(system)
        for number in sorted(chosen) if config.sort else chosen:
            if number not in corpus:
                own = stream(seed, "document", number)
                corpus[number] = draw(content, own, draw_length(config.document, own))
            drawn.extend(corpus[number])
        drawn.extend(draw(content, rng, draw_length(config.question, rng)))
        sessions.append(single(content, tuple(drawn), draw_length(config.output, rng)))
    return sessions


def _distinct(rng: Random, weights: list[float], k: int) -> list[int]:
    """k different indexes, weighted (given as running sums); the most likely fill what lacks."""
    everyone = range(len(weights))
    chosen: dict[int, None] = {}
    for _ in range(64 * k):
        chosen[rng.choices(everyone, cum_weights=weights)[0]] = None
        if len(chosen) == k:
            return list(chosen)
    chosen.update(dict.fromkeys(range(k)))
    return list(chosen)[:k]


class CodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Code completion: a file up to the cursor, then what was just typed; short answers."""

    count: Count = 100
    """Requests."""
    files: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 10
    """Files that requests are about, evenly drawn."""
    size: Length = fixed(1500)
    """Tokens of a file."""
    cursor: Share = 0.5
    """The cursor is from this share of the file to its end: only what is before it is sent."""
    edit: Length = fixed(20)
    """Tokens just typed, each request's own."""
    output: Length = fixed(24)
    """Tokens of a completion."""
    content: Content = Content()


def code(config: CodeConfig, seed: int) -> list[Session]:
    """`count` single requests. Raises ConfigError for values out of bounds."""
    checked(config)
    content, rng = config.content, stream(seed, "code")
    opened: dict[int, Units] = {}
    sessions = []
    for _ in range(config.count):
        number = rng.randrange(config.files)
        if number not in opened:
            own = stream(seed, "file", number)
            opened[number] = draw(content, own, draw_length(config.size, own))
        before = opened[number][: round(len(opened[number]) * rng.uniform(config.cursor, 1.0))]
        drawn = before + draw(content, rng, draw_length(config.edit, rng))
        sessions.append(single(content, drawn, draw_length(config.output, rng)))
    return sessions


class AgenticConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Agents: a task, then tool calls (short outputs) and their results (large inputs)."""

    count: Count = 10
    """Agents."""
    turns: Length = fixed(12)
    """Requests of an agent; the last one answers, the others call tools."""
    system: Tokens = 800
    """Tokens of instructions and tools that all agents share."""
    task: Length = fixed(100)
    """Tokens of the first message."""
    result: Length = Length("lognormal", 400, 1.0)
    """Tokens of a tool's result."""
    call: Length = fixed(40)
    """Tokens of a tool call."""
    answer: Length = fixed(200)
    """Tokens of the last answer."""
    think: Seconds = 0.5
    """Mean seconds that a tool takes, exponentially drawn."""
    content: Content = Content()


def agentic(config: AgenticConfig, seed: int) -> list[Session]:
    """`count` sessions whose context grows. Raises ConfigError for values out of bounds."""
    checked(config)
    content, rng = config.content, stream(seed, "agentic")
    system = draw(content, stream(seed, "agentic system"), config.system)
    sessions = []
    for _ in range(config.count):
        turns = draw_length(config.turns, rng)
        messages = [draw(content, rng, draw_length(config.task, rng))]
        messages += [draw(content, rng, draw_length(config.result, rng)) for _ in range(turns - 1)]
        outputs = [draw_length(config.call, rng) for _ in range(turns - 1)]
        outputs.append(draw_length(config.answer, rng))
        thinks = _pauses(rng, config.think, turns)
        sessions.append(_conversation(content, system, messages, outputs, thinks))
    return sessions
