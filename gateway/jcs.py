"""JSON as RFC 8785 writes it (the JSON Canonicalization Scheme).

msgspec writes most values to the very same bytes, many times faster than the library that is made for it; what it would
write otherwise goes to the library.
"""

from typing import Any, Final

import msgspec
import rfc8785

CanonicalizationError = rfc8785.CanonicalizationError
IntegerDomainError = rfc8785.IntegerDomainError

_MAX_INT: Final = 2**53 - 1
_LEAST: Final = 1e-5
_MOST: Final = 1e15
"""Between these, fractions are written with a point and without an exponent by both."""
_ENCODE = msgspec.json.Encoder(order="deterministic").encode


def dumps(value: Any) -> bytes:
    """The one way to write `value`.

    Raises `IntegerDomainError` beyond ±(2^53 - 1), and `CanonicalizationError` or `UnicodeEncodeError` for what has no
    canonical form.
    """
    return _ENCODE(value) if _is_plain(value) else rfc8785.dumps(value)


def _is_plain(value: Any) -> bool:
    """Whether msgspec writes it the same way."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return -_MAX_INT <= value <= _MAX_INT
    if kind is dict:
        # Names are sorted by UTF-16 there, and by UTF-8 here, which is the same for what is in ASCII.
        return all(type(name) is str and name.isascii() and _is_plain(item) for name, item in value.items())
    if kind is list or kind is tuple:
        return all(map(_is_plain, value))
    return kind is float and _LEAST < abs(value) < _MOST and not value.is_integer()
