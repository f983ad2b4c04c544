"""SamplingParams: one stop string or several, and whatever is out of range says so."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sixfold.core.errors import RequestError
from sixfold.core.request import MAX_SEED, SamplingParams, split_seeds

INTEGERS = ("n", "top_k", "seed", "min_tokens", "max_tokens", "logprobs", "prompt_logprobs")
NUMBERS = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty",
           "repetition_penalty")  # fmt: skip


def refused(**fields: object) -> RequestError:
    with pytest.raises(RequestError) as caught:
        SamplingParams(**fields).validate(10)  # type: ignore[arg-type]
    assert caught.value.hint and len(str(caught.value)) < 300
    return caught.value


def test_a_string_is_one_stop_string() -> None:
    params = SamplingParams(stop="END")
    assert params.stop == ["END"] == SamplingParams(stop=["END"]).stop
    assert msgspec.structs.replace(params, stop="STOP").stop == ["STOP"]
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(params), type=SamplingParams)
    assert sent == params
    assert msgspec.json.decode(b'{"stop": "END"}', type=SamplingParams) == params
    params.validate(10)
    for bad in ("", "x" * 1025, [""], [7], ["a"] * 33):
        assert refused(stop=bad).param == "stop"


@pytest.mark.parametrize("name", INTEGERS)
def test_integer_fields_refuse_all_but_integers_in_range(name: str) -> None:
    for bad in (10**400, -(10**400), 10**5000, 1.5, True, "1", float("nan"), np.bool_(True)):
        assert refused(**{name: bad}).param == name
    SamplingParams(**{name: np.int64(1)}).validate(10)


@pytest.mark.parametrize("name", NUMBERS)
def test_number_fields_refuse_all_but_numbers_in_range(name: str) -> None:
    for bad in (10**400, 10**5000, float("nan"), float("inf"), True, "1", None):
        assert refused(**{name: bad}).param == name
    SamplingParams(**{name: 1}).validate(10)
    SamplingParams(**{name: np.float32(0.5)}).validate(10)


def test_token_ids_are_integers_of_the_vocabulary() -> None:
    for bad in (-1, 10, 10**400, 10**5000, 1.5, True, "1"):
        assert refused(stop_token_ids=[bad]).param == "stop_token_ids"
        assert refused(logit_bias={bad: 1.0}).param == "logit_bias"
    for bias in (float("nan"), 10**400, "1"):
        assert refused(logit_bias={1: bias}).param == "logit_bias"
    SamplingParams(stop_token_ids=[0, np.int64(9)], logit_bias={9: -100}).validate(10)


@given(st.integers(-MAX_SEED - 1, MAX_SEED) | st.none(), st.integers(1, 128))
def test_choices_have_seeds_of_their_own_and_in_range(seed: int | None, n: int) -> None:
    each = split_seeds(SamplingParams(n=n, seed=seed))
    assert len(each) == n and all(params.n == 1 for params in each)
    for params in each:
        params.validate(10)
    if seed is None:
        assert all(params.seed is None for params in each)
    else:
        assert each[0].seed == seed and len({params.seed for params in each}) == n
