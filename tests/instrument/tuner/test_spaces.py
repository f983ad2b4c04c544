import pytest

from sixfold.core.errors import ConfigError
from sixfold.instrument.backends import backend
from sixfold.instrument.backends.flags import check_flags
from sixfold.instrument.backends.spec import EngineSpec
from sixfold.instrument.tuner.ask import QualityCheck
from sixfold.instrument.tuner.space import Space, space_of
from sixfold.instrument.tuner.spaces import (
    AT_MOST,
    LOSSY,
    PRECISION,
    SIZES,
    SWITCHED,
    check_consent,
    default_space,
    given_space,
    sized,
    switches,
)
from sixfold.strategies import CARDS


def test_switches_come_from_the_cards() -> None:
    assert set(SWITCHED) <= {card.name for card in CARDS}
    assert switches("sixfold") == {
        "batching": ("static", "continuous"),
        "speculative": ("auto", "off"),
        "enable_prefix_caching": (True, False),
    }
    assert switches("llamacpp")["flash_attn"] == ("on", "off")
    for engine in SIZES:
        backend(engine)


def names(space: Space) -> set[str]:
    return {name for parameter in space.parameters for name in parameter.names}


def test_lossy_values_need_consent() -> None:
    for engine in SIZES:
        plain, lossy = default_space(engine), default_space(engine, lossy=True)
        tried = {parameter.name for parameter in LOSSY[engine]}
        assert not names(plain) & tried and names(lossy) == names(plain) | tried
        for parameter in LOSSY[engine]:
            full = set(parameter.values) - set(parameter.lossy)
            assert parameter.lossy and full <= set(PRECISION[engine][parameter.name])
        check_consent(EngineSpec(engine=engine), plain)
        with pytest.raises(ConfigError, match="changes what the model says"):
            check_consent(EngineSpec(engine=engine), lossy)


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        ("sixfold", "dtype=[bf16,int4]"),
        ("vllm", "kv-cache-dtype=[auto,fp8]"),
        ("vllm", "quantization=awq"),
        ("vllm", "max_num_seqs*kv_cache_dtype=[(8,auto),(8,fp8)]"),
        ("sglang", "quantization=[fp8]"),
        ("sglang", "quantize-and-serve=[true,false]"),
        ("llamacpp", "cache_type_v=[f16,q8_0]"),
        ("llamacpp", "cache-type-k=q4_0"),
        ("command", "kv-cache-dtype=[fp8]"),
    ],
)
def test_a_given_space_with_fewer_bits_needs_consent(engine: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_consent(EngineSpec(engine=engine), given_space(text))
    assert "--allow-lossy" in caught.value.hint
    check = QualityCheck(EngineSpec(engine=engine))
    for config in given_space(text).configurations():
        assert check.lossy(EngineSpec(engine=engine, flags=config)), "and is asked for its quality"


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        ("sixfold", "dtype=[auto,bf16,f32];max_num_seqs=[1,2]"),
        ("vllm", "kv-cache-dtype=auto"),
        ("llamacpp", "cache_type_k=[f16,f32]"),
        ("openai", "dtype=int4"),
        ("sixfold", "dtype=int8"),
    ],
)
def test_what_keeps_all_bits_needs_none(engine: str, text: str) -> None:
    """Nor does what the baseline has: its own answers are the measure."""
    spec = EngineSpec(engine=engine, flags={"dtype": "int8"} if "int8" in text else {})
    check_consent(spec, given_space(text))


def test_our_own_flags_exist() -> None:
    for config in default_space("sixfold", lossy=True).configurations()[::7]:
        check_flags(EngineSpec(engine="sixfold", model="m", flags=config))


def test_coupled_flags_of_a_given_space_stay_coupled() -> None:
    space = given_space("tp*dp=[(1,4),(2,2)];max-num-seqs=[8,8,4]")
    assert space.configurations() == [
        {"tp": tp, "dp": dp, "max_num_seqs": n} for tp, dp in ((1, 4), (2, 2)) for n in (8, 4)
    ]
    assert given_space("a=[1,true]").configurations() == [{"a": 1}, {"a": True}]
    with pytest.raises(ConfigError, match="twice"):
        given_space("max-num-seqs=1;max_num_seqs=2")


def test_no_default_configuration_has_more_sequences_than_tokens() -> None:
    for engine, (less, more) in AT_MOST.items():
        for config in default_space(engine).configurations():
            assert float(config[less]) <= float(config[more])
    tight = sized({"a": (4, 64), "c": ("x",), "b": (16, 128)}, ("a", "b"))
    assert Space(tight).configurations() == [
        {"a": a, "b": b, "c": "x"} for a, b in ((4, 16), (4, 128), (64, 128))
    ]


def test_a_quantised_v_cache_is_tried_with_flash_attention_alone() -> None:
    configs = default_space("llamacpp", lossy=True).configurations()
    assert {c["flash_attn"] for c in configs if "cache_type_v" in c} == {"on"}
    assert {c["flash_attn"] for c in configs if "cache_type_v" not in c} == {"off"}
    assert any(c.get("cache_type_v") == "q8_0" for c in configs)
    encode = space_of(configs)
    assert len({encode.encode(c).tobytes() for c in configs}) == len(configs)


def test_a_server_that_runs_is_one_configuration() -> None:
    assert default_space("openai").configurations() == [{}]


def test_an_unknown_engine_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="nothing is known"):
        default_space("command")
