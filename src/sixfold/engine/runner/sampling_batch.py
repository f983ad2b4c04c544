"""Sampling parameters as the native sampler takes them, one record per running slot.

A slot's record is filled once when its request starts; each step only sets the position, and for
requests with penalties or min_tokens the lists. Not here: the sampling itself.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sixfold.core.request import EngineRequest, SamplingParams
from sixfold.engine.kernels.sampling import SAMPLE_PARAMS

Int32 = NDArray[np.int32]


@dataclass(slots=True)
class _Lists:
    """Arrays whose addresses a record holds: they live as long as the slot's request."""

    banned: Int32
    prompt: Int32
    output: Int32
    bias_ids: Int32
    bias_values: NDArray[np.float32]
    min_tokens: int
    penalised: bool
    num_output: int = 0


class SamplingBatch:
    """Records of all slots. `engine_seed` seeds requests that bring none, by their id."""

    def __init__(self, max_num_seqs: int, eos_token_ids: Sequence[int], engine_seed: int) -> None:
        self._records = np.zeros(max_num_seqs, SAMPLE_PARAMS)
        self._lists: list[_Lists | None] = [None] * max_num_seqs
        self._owners: list[EngineRequest | None] = [None] * max_num_seqs
        self._eos = list(eos_token_ids)
        self._seed = engine_seed

    def start(self, slot: int, request: EngineRequest) -> None:
        """Fill the slot's record, unless it already is this very request's.

        Requests are told apart by identity: an id is free for another once its request is over.
        """
        if self._owners[slot] is request:
            return
        self._owners[slot] = request
        # Nothing of the slot's previous request may stay: its bans, its biases, their addresses.
        self._records[slot] = np.zeros((), SAMPLE_PARAMS)
        p, record = request.params, self._records[slot]
        seed = p.seed if p.seed is not None else _derived_seed(self._seed, request.request_id)
        record["seed"] = int(seed) & (2**64 - 1)
        for name in ("temperature", "top_p", "min_p", "repetition_penalty", "frequency_penalty",
                     "presence_penalty"):  # fmt: skip
            record[name] = getattr(p, name)
        record["top_k"] = max(0, p.top_k)
        record["num_logprobs"] = -1 if p.logprobs is None else p.logprobs
        self._lists[slot] = lists = self._make_lists(request)
        if lists is not None:
            _point(record, lists)

    def records(
        self,
        slots: Sequence[int],
        outputs: Sequence[Sequence[int]],
        drafts: Sequence[Sequence[int]] | None = None,
    ) -> NDArray[np.void]:
        """Records of `slots` for their next token; `outputs` are the tokens each has generated.

        With `drafts`, tokens that may follow, a slot has a record for what comes behind each too.
        """
        if drafts is None:
            for slot, output in zip(slots, outputs, strict=True):
                self._set(slot, output)
            return self._records[list(slots)]
        found = np.empty(sum(map(len, drafts)) + len(slots), SAMPLE_PARAMS)
        at = 0
        for slot, output, draft in zip(slots, outputs, drafts, strict=True):
            self._set(slot, output, draft)
            for count in range(len(draft) + 1):
                found[at] = self._behind(slot, len(output) + count)
                at += 1
        return found

    def next_records(
        self,
        slots: Sequence[int],
        outputs: Sequence[Sequence[int]],
        drafts: Sequence[Sequence[int]],
    ) -> NDArray[np.void]:
        """Records for the one token behind each slot's output and draft, without logprobs."""
        found = np.empty(len(slots), SAMPLE_PARAMS)
        for i, (slot, output, draft) in enumerate(zip(slots, outputs, drafts, strict=True)):
            self._set(slot, output, draft)
            found[i] = self._behind(slot, len(output) + len(draft))
        found["num_logprobs"] = -1
        return found

    def _set(self, slot: int, output: Sequence[int], draft: Sequence[int] = ()) -> None:
        record, lists = self._records[slot], self._lists[slot]
        record["position"] = len(output)
        if lists is not None:
            _update(record, lists, output, draft)

    def _behind(self, slot: int, position: int) -> np.void:
        """The slot's record as it is once `position` tokens are out. The lists hold them."""
        lists = self._lists[slot]
        record: np.void = self._records[slot]
        record["position"] = position
        if lists is not None:
            record["num_banned"] = len(lists.banned) if position < lists.min_tokens else 0
            if lists.penalised:
                record["num_output"] = position
        return record

    def params_for_prompt(self, count: int, num_logprobs: int) -> NDArray[np.void]:
        """Records for rows whose logprobs are asked for, not a token."""
        records = np.zeros(count, SAMPLE_PARAMS)
        records["num_logprobs"] = num_logprobs
        return records

    def _make_lists(self, request: EngineRequest) -> _Lists | None:
        p = request.params
        banned = self._banned(p)
        if not (banned or p.logit_bias or _has_penalties(p)):
            return None
        prompt = request.prompt_token_ids if _has_penalties(p) else []
        capacity = 256 if _has_penalties(p) else 0
        return _Lists(
            np.array(banned, np.int32), np.array(prompt, np.int32), np.empty(capacity, np.int32),
            np.array(list(p.logit_bias), np.int32),
            np.array(list(p.logit_bias.values()), np.float32), p.min_tokens, _has_penalties(p),
        )  # fmt: skip

    def _banned(self, p: SamplingParams) -> list[int]:
        if p.min_tokens <= 0:
            return []
        return sorted({*self._eos, *p.stop_token_ids})


def _has_penalties(p: SamplingParams) -> bool:
    return (p.repetition_penalty, p.frequency_penalty, p.presence_penalty) != (1.0, 0.0, 0.0)


def _point(record: np.void, lists: _Lists) -> None:
    for name, array in (("banned", lists.banned), ("prompt", lists.prompt)):
        record[f"num_{name}"] = len(array)
        record[f"{name}_ids"] = array.ctypes.data
    record["num_bias"] = len(lists.bias_ids)
    record["bias_ids"] = lists.bias_ids.ctypes.data
    record["bias_values"] = lists.bias_values.ctypes.data
    record["output_ids"] = lists.output.ctypes.data
    record["num_output"] = 0


def _update(record: np.void, lists: _Lists, output: Sequence[int], draft: Sequence[int]) -> None:
    """Lift the ban once min_tokens are out; append what is new in `output`, then the draft."""
    record["num_banned"] = len(lists.banned) if len(output) < lists.min_tokens else 0
    if not lists.penalised:
        return
    end = len(output) + len(draft)
    if end > len(lists.output):
        grown = np.empty(2 * end, np.int32)
        grown[: lists.num_output] = lists.output[: lists.num_output]
        lists.output = grown
        record["output_ids"] = grown.ctypes.data
    lists.output[lists.num_output : len(output)] = output[lists.num_output :]
    lists.output[len(output) : end] = draft
    lists.num_output = len(output)
    record["num_output"] = len(output)


def _derived_seed(engine_seed: int, request_id: str) -> int:
    key = engine_seed.to_bytes(8, "little", signed=True)
    return int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8, key=key).digest())
