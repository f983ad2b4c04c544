"""Prices of hardware: numbers, tables, and what is neither."""

import pytest

from sixfold.core.errors import ConfigError
from sixfold.instrument.prices import price_per_hour

TABLE = """
"*H100 x8*" = 31.5
"*h100*" = 4
"AMD EPYC*" = 0.5
"""


@pytest.fixture
def table(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "prices.toml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("hardware", "price"),
    [("NVIDIA H100 x8", 31.5), ("NVIDIA H100 x4", 4.0), ("amd epyc 9654 x2", 0.5)],
)
def test_the_first_pattern_that_matches_counts(table, hardware, price):
    assert price_per_hour(table(TABLE), hardware) == price
    assert price_per_hour("2.5", hardware) == 2.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TABLE, "no price for 'L40S'"),
        ("", "no price for 'L40S'"),
        ('"L40S" = "2"', "has no price"),
        ('"L40S" = true', "has no price"),
        ("[gpu]\nL40S = 2", "has no price"),
        ('"L40S" = -2', "is no price"),
        ('"L40S" = nan', "is no price"),
        ("L40S", "can't be read"),
    ],
)
def test_what_is_no_price_is_an_error(table, text, said):
    with pytest.raises(ConfigError, match=said):
        price_per_hour(table(text), "L40S")
    for given in ("-1", "inf", "nowhere"):
        with pytest.raises(ConfigError):
            price_per_hour(given, "L40S")
