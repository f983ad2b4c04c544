"""Spaces: what is valid, how it becomes numbers, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sixfold.core.errors import ConfigError
from sixfold.instrument.backends.grid import parse_grid
from sixfold.instrument.tuner.space import Condition, Coupled, Parameter, Space, space_of

scalars = st.one_of(st.booleans(), st.integers(-50, 50), st.floats(-9, 9), st.text(max_size=3))
SPEC = Space(
    (
        Parameter("method", ("off", "ngram", "eagle"), lossy=("eagle",)),
        Parameter("draft", (1, 2, 4), ordered=True, only_if=(Condition("method", ("eagle",)),)),
        Coupled(("tp", "dp"), ((1, 4), (2, 2), (4, 1))),
    )
)

HUGE = Space(tuple(Parameter(f"p{i}", tuple(range(50))) for i in range(4)))


def typed(config: dict) -> tuple:
    return tuple((name, type(value), value) for name, value in config.items())


@st.composite
def spaces(draw: st.DrawFn, most: int = 4) -> Space:
    parameters: list[Parameter] = []
    for index in range(draw(st.integers(1, most))):
        values = draw(st.lists(scalars, min_size=1, max_size=4, unique_by=lambda v: (type(v), v)))
        values = list({(isinstance(v, bool), v): v for v in values}.values())
        conditions = ()
        if parameters and draw(st.booleans()):
            other = draw(st.sampled_from(parameters))
            conditions = (Condition(other.name, (draw(st.sampled_from(other.values)),)),)
        ordered = draw(st.booleans())
        parameters.append(Parameter(f"p{index}", tuple(values), ordered, only_if=conditions))
    return Space(tuple(parameters))


@settings(deadline=None)
@given(spaces())
def test_configurations_are_valid_distinct_and_stable(space: Space) -> None:
    found = space.configurations()
    assert found == space.configurations()
    assert found
    assert len(set(map(typed, found))) == len(found)
    for config in found:
        space.check(config)
        for parameter in space.parameters:
            holds = all(condition.holds(config) for condition in parameter.only_if)
            assert holds == (parameter.names[0] in config)


@settings(deadline=None)
@given(spaces())
def test_vectors_tell_configurations_apart(space: Space) -> None:
    vectors = [space.encode(config) for config in space.configurations()]
    assert {len(vector) for vector in vectors} == {len(space.columns)}
    assert all(((vector >= 0) & (vector <= 1)).all() for vector in vectors)
    assert len({vector.tobytes() for vector in vectors}) == len(vectors)


def test_conditions_and_couples() -> None:
    found = SPEC.configurations()
    assert len(found) == (2 + 3) * 3
    assert found[0] == {"method": "off", "tp": 1, "dp": 4}
    assert SPEC.lossy(found[-1]) == ("method",)


def test_ordered_numbers_lie_on_a_log_scale_and_categories_one_apart() -> None:
    space = Space((Parameter("n", (1, 4, 16), ordered=True), Parameter("k", ("a", "b"))))
    vectors = [space.encode(config) for config in space.configurations()]
    assert [vector[1] for vector in vectors[::2]] == [0, 0.5, 1]
    assert np.linalg.norm(vectors[0] - vectors[1]) == pytest.approx(1)


def test_a_grid_becomes_a_space() -> None:
    grid = parse_grid("max_num_seqs=[8,32,16];kv=[auto,fp8];tp*dp=[(1,4),(4,1)]")
    space = space_of(grid)
    assert space.configurations() == grid
    assert [p.ordered for p in space.parameters if isinstance(p, Parameter)] == [
        True,
        False,
        True,
        True,
    ]
    assert space.parameters[0] == Parameter("max_num_seqs", (8, 16, 32), ordered=True)
    assert space_of([{"a": 1}, {"a": True}, {"a": 1}]).configurations() == [{"a": 1}, {"a": True}]


@pytest.mark.parametrize(
    "build",
    [
        lambda: Parameter("", (1,)),
        lambda: Parameter("a", ()),
        lambda: Parameter("a", (1, 2, 1)),
        lambda: Parameter("a", (float("nan"),)),
        lambda: Parameter("a", (1,), lossy=(2,)),
        lambda: Coupled(("a", "b"), ((1,),)),
        lambda: Space((Parameter("a", (1,)), Parameter("a", (2,)))),
        lambda: Space((Parameter("a", (1,), only_if=(Condition("b", (1,)),)),)),
        lambda: Space(
            tuple(Parameter(f"p{i}", tuple(range(50))) for i in range(4))
        ).configurations(),
        lambda: space_of([]),
        lambda: SPEC.encode({"method": "off", "tp": 1}),
        lambda: SPEC.encode({"method": "off", "tp": 1, "dp": 1}),
        lambda: SPEC.encode({"method": "off", "draft": 1, "tp": 1, "dp": 4}),
        lambda: SPEC.encode({"method": "off", "tp": 1, "dp": 4, "pp": 1}),
    ],
)
def test_what_is_wrong_is_said_with_a_hint(build) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert caught.value.hint
