"""RFC 8785: what is written by the fast way is what the library for it writes."""

from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from gateway import jcs

NUMBERS = st.integers() | st.floats(allow_nan=True) | st.floats(-1e6, 1e6) | st.integers(-10, 10).map(float)
PLAIN = st.none() | st.booleans() | NUMBERS | st.text(st.characters(codec=None))
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec=None)), inner), max_leaves=20
)


def written(write: Any, value: Any) -> bytes | str:
    """The bytes, or that there are none."""
    try:
        return write(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        return "none"


@given(VALUES)
@example({"\ufb33": 1, "\U0001f600": 2, "\ud7ff": 3})
@example([1e-7, 1e21, 1e16, 123456789012345680.0, 0.1, -0.0, 5e-324, 1e15 + 0.5])
@example("\u007f\u0080\u2028\x00\x1f/")
def test_it_is_what_the_library_writes(value: Any) -> None:
    """For every value, also where there is no canonical form."""
    assert written(jcs.dumps, value) == written(rfc8785.dumps, value)


def test_integers_that_doubles_do_not_hold_are_refused() -> None:
    """By the library's own error."""
    assert jcs.dumps(2**53 - 1) == b"9007199254740991"
    with pytest.raises(jcs.IntegerDomainError):
        jcs.dumps([2**53])
