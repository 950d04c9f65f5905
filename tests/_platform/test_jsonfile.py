"""JSON that somebody else wrote: whatever is wrong with it is said in one line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiotok._platform.errors import InputError
from audiotok._platform.jsonfile import number, parse, whole


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested more than 100 levels deep"),
        ("[" * 101 + "]" * 101, "nested more than 100 levels deep"),
        ('{"a":' * 5_000 + "1" + "}" * 5_000, "nested more than 100 levels deep"),
        ('{"seconds": 1e400}', "1e400 is beyond the largest number"),
        ('{"seconds": -1e400}', "-1e400 is beyond the largest number"),
        ('{"seconds": NaN}', "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("9" * 5_000, "a number of 5000 digits"),
        ('{"text": "a", "text": "b"}', 'the key "text" stands twice'),
        ('{"text": ', "not JSON"),
        ("", "not JSON"),
        (b"\xff{}", "not UTF-8 (byte 0)"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_that_begins_with_the_place(text: str | bytes, says: str):
    with pytest.raises(ValueError, match=r"\Am\.jsonl, line 3: .{,150}\Z") as caught:
        parse(text, "m.jsonl, line 3")
    assert type(caught.value) is InputError
    assert says in str(caught.value)


def test_a_hundred_levels_and_many_brackets_beside_each_other_are_read():
    assert parse("[" * 100 + "]" * 100, "x") is not None
    assert parse(json.dumps([[]] * 500 + ["[{" * 500]), "x")[-1] == "[{" * 500
    assert parse(b"\xef\xbb\xbf[1]", "x") == [1]


_PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)


@given(
    st.recursive(
        _PLAIN | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_what_json_can_hold_is_read_as_json_reads_it(value: object):
    assert parse(json.dumps(value), "x") == value


@given(st.text() | st.binary())
def test_any_text_is_read_or_refused_in_one_line(text: str | bytes):
    message = ""
    try:
        parse(text, "x")
    except ValueError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1


@pytest.mark.parametrize("value", [True, "1", None, float("nan"), float("inf"), 10**400, -1, [1]])
def test_a_number_is_no_boolean_no_text_and_finite(value: object):
    with pytest.raises(ValueError, match=r"^m\.jsonl: seconds is .* of at least 0$"):
        number(value, "m.jsonl: seconds", least=0)


@pytest.mark.parametrize("value", [True, "1", None, 1.0, -1, 9])
def test_a_whole_number_is_an_integer_in_its_range(value: object):
    with pytest.raises(ValueError, match=r"^c: channel is .*, not a whole number from 0 to 8$"):
        whole(value, "c: channel", least=0, most=8)


def test_numbers_that_are_right_are_handed_back():
    assert number(3, "x") == 3.0
    assert whole(8, "x", most=8) == 8
