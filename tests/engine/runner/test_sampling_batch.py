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
