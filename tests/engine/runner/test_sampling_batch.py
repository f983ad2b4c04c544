"""A slot's sampling record is its request's alone."""

import numpy as np

from sixfold.core.request import EngineRequest, SamplingParams
from sixfold.engine.runner.sampling_batch import SamplingBatch


def request(name: str, **fields: object) -> EngineRequest:
    params = SamplingParams(temperature=0, seed=1, **fields)  # type: ignore[arg-type]
    return EngineRequest(request_id=name, prompt_token_ids=[1, 2], params=params, arrival_time=0.0)


def test_a_slot_keeps_nothing_of_its_previous_request() -> None:
    batch, fresh = SamplingBatch(1, [2], 0), SamplingBatch(1, [2], 0)
    greedy = {"min_tokens": 9, "logit_bias": {5: 3.0}, "repetition_penalty": 1.5, "max_tokens": 9}
    batch.start(0, request("first", **greedy))
    batch.records([0], [[7]])
    batch.start(0, request("second"))
    fresh.start(0, request("second"))
    assert np.array_equal(batch.records([0], [[]]), fresh.records([0], [[]]))


def test_a_slot_keeps_nothing_of_a_request_with_the_same_id() -> None:
    batch, fresh = SamplingBatch(1, [2], 0), SamplingBatch(1, [2], 0)
    first = request("a", logit_bias={5: 3.0}, min_tokens=1)
    batch.start(0, first)
    batch.records([0], [[7]])
    batch.start(0, request("a"))
    fresh.start(0, request("a"))
    assert np.array_equal(batch.records([0], [[]]), fresh.records([0], [[]]))


def test_a_request_that_goes_on_keeps_its_record() -> None:
    batch, same = SamplingBatch(1, [2], 0), request("a", frequency_penalty=0.5, min_tokens=2)
    batch.start(0, same)
    (before,) = batch.records([0], [[7, 8, 9]])
    batch.start(0, same)
    (after,) = batch.records([0], [[7, 8, 9, 4]])
    assert before["output_ids"] == after["output_ids"] != 0
    assert (before["num_output"], after["num_output"]) == (3, 4)
