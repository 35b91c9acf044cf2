"""Numbers in answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute.evidence.numbers import Quantity, find_quantities, read_quantity, same_quantity


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("42", 42, ""),
        ("-3.5", -3.5, ""),
        ("\u22127", -7, ""),
        ("$1,234.50", 1234.5, "$"),
        ("1,234,567 people", 1234567, "people"),
        (r"\$18", 18, "$"),
        (r"\frac{3}{4}", 0.75, ""),
        (r"\dfrac{10}{4}", 2.5, ""),
        ("3/4", 0.75, ""),
        ("2 1/2 cups", 2.5, "cup"),
        (r"50\%", 50, "%"),
        ("12 %", 12, "%"),
        ("1.5e3", 1500, ""),
        (r"6.02 \times 10^{23}", 6.02e23, ""),
        ("3 x 10^-2", 0.03, ""),
        ("x = 5", 5, ""),
        ("2 + 3 = 5", 5, ""),
        ("10{,}000", 10000, ""),
        (r"18\text{ dollars}", 18, "dollar"),
        ("seven", 7, ""),
        (".5", 0.5, ""),
        ("5-3", 5, ""),
    ],
)
def test_a_number_is_read(text: str, value: float, unit: str) -> None:
    found = read_quantity(text)
    assert found is not None
    assert found.value == pytest.approx(value)
    assert found.unit == unit


@pytest.mark.parametrize("text", ["", "none", "1/0", "the answer"])
def test_no_number(text: str) -> None:
    assert read_quantity(text) is None


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("18", "18.00", True),
        ("$18", "18 dollars", True),
        ("18", "$18", True),
        ("18 eggs", "18 ducks", True),
        ("50%", "0.5", True),
        ("50%", "50", True),
        ("3 km", "3000 m", True),
        ("3 km", "3 m", False),
        ("3 kg", "3 hours", False),
        ("2 hours", "120 minutes", True),
        ("100 cents", "$1", True),
        ("1/3", "0.3333", True),
        ("1/3", "0.33", False),
        ("0", "0.0", True),
        ("18", "19", False),
        ("18", "-18", False),
        ("$1000", "$1001", False),
        ("123456", "123457", False),
        ("$1234.56", "$1234.60", False),
        ("5 million", "5", False),
        ("5 million", "5,000,000", True),
        ("minus 5", "5", False),
        ("negative 5", "-5", True),
        ("\u20135", "5", False),
        ("2:00 pm", "2:30 pm", False),
        ("2:00 pm", "2 PM", True),
        ("3:4", "3:5", False),
        ("3:4", "3", False),
        ("3,5", "3,7", False),
        ("1.234,56", "1.234", False),
        ("10-12", "10", False),
        ("10 to 12", "10 to 15", False),
        ("3 hours and 20 minutes", "3 hours", False),
        ("January 5, 2024", "January 5, 2023", False),
        ("5 January", "5 March", False),
        ("less than 5", "5", False),
        (r"2\sqrt{3}", "2", False),
        (r"2\pi", "2", False),
        ("2x + 3", "2x + 5", False),
        ("x^2", "2", False),
        ("(3, 4)", "(3, 5)", False),
        ("\u20ac5", "$5", False),
        ("5\u00b0C", "5\u00b0F", False),
        ("0x1F", "0", False),
        ("$5k", "$5", False),
        ("The total is 18.", "18", True),
        ("18 because 9 times 2 is 18", "18", True),
        ("twelve", "12", True),
    ],
)
def test_equality(a: str, b: str, same: bool) -> None:
    left, right = read_quantity(a), read_quantity(b)
    assert left is not None
    assert right is not None
    assert same_quantity(left, right) is same
    assert same_quantity(right, left) is same


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{}", "{:,}", "${:,}", "**{}**", "= {}."]))
def test_every_way_to_write_an_integer(value: int, form: str) -> None:
    found = read_quantity(form.format(value))
    assert found is not None
    assert abs(found.value) == abs(value)


@given(st.text(max_size=200))
def test_any_text_is_read_without_an_error(text: str) -> None:
    for quantity in find_quantities(text):
        assert isinstance(quantity, Quantity)
