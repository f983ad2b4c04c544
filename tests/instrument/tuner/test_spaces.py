import pytest

from sixfold.core.errors import ConfigError
from sixfold.instrument.backends import backend
from sixfold.instrument.backends.flags import check_flags
from sixfold.instrument.backends.spec import EngineSpec
from sixfold.instrument.tuner.spaces import LOSSY, SIZES, SWITCHED, default_space, switches
from sixfold.strategies import CARDS


def test_switches_come_from_the_cards() -> None:
    assert set(SWITCHED) <= {card.name for card in CARDS}
    assert switches("sixfold") == {
        "batching": ("static", "continuous"),
        "enable_prefix_caching": (True, False),
    }
    assert switches("llamacpp")["flash_attn"] == ("on", "off")
    for engine in SIZES:
        backend(engine)


def test_lossy_values_need_consent() -> None:
    for engine in SIZES:
        assert not set(default_space(engine)) & set(LOSSY[engine])
        assert set(LOSSY[engine]) <= set(default_space(engine, lossy=True))


def test_our_own_flags_exist() -> None:
    for flag, values in default_space("sixfold", lossy=True).items():
        for value in values:
            check_flags(EngineSpec(engine="sixfold", model="m", flags={flag: value}))


def test_an_unknown_engine_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="nothing is known"):
        default_space("command")
