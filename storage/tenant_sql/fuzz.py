"""Functions that tenants may call come in, statements that call some of them go out: the same each time."""

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

_VALUES: Final[dict[str, Sequence[str]]] = {
    "text": ("text", "quote", "''", "'a b'", "'%'", "'canary'"),
    "name": ("text", "'completions'"),
    "smallint": ("0", "-1", "32767"),
    "integer": ("0", "-1", "2147483647", "start_pos"),
    "bigint": ("0", "-1", "9223372036854775807"),
    "oid": ("0", "10", "1259", "'completions'::regclass"),
    "double precision": ("1.5", "'NaN'", "0"),
    "real": ("1.5", "'-Infinity'"),
    "numeric": ("1.5", "1e20", "0"),
    "boolean": ("true", "fits", "verbatim"),
    "json": ("attributes", "'{}'", "'[1]'"),
    "jsonb": ("attributes", "'{}'", "'[1]'"),
    "jsonpath": ("'$'", "'$.x'"),
    "tsvector": ("tsv", "'a:1'"),
    "tsquery": ("'a & b'", "''"),
    "int4range": ("span", "'[1,2)'"),
    "date": ("'2020-01-01'", "created_at", "'infinity'"),
    "timestamp with time zone": ("created_at", "'infinity'"),
    "timestamp without time zone": ("created_at", "'-infinity'"),
    "interval": ("'1 day'", "'0'"),
    "regclass": ("'completions'", "'pg_class'"),
    "text[]": ("array[text]", "'{}'"),
    "bytea": ("'\\x00'", "convert_to(text, 'utf8')"),
    "record": ("x", "row(text)"),
    "vector": ("'[1,2,3]'", "'[0,0,0]'", "'[1]'"),
    "halfvec": ("'[1,2,3]'", "'[0,0,0]'", "(select embedding from embeddings limit 1)"),
    "sparsevec": ("'{1:1,3:2}/5'", "'{}/5'"),
    "bit": ("'101'", "''"),
}
_ANY: Final = ("text", "attributes", "x", "array[text]", "start_pos", "null::text")
_OTHERS: Final = ("null", "'0'", "'1'", "''")
_UNSTOPPABLE: Final = re.compile(r"^(repeat|lpad|rpad|generate_series|.*(_|^)(poly|path|circle)_?.*|factorial)$")
"""Those that may take what memory or time there is: the bounds of a statement are for them."""


def statements(functions: Sequence[Any], count: int, seed: int) -> Iterator[str]:
    """So many calls, on the records of the view `extractions`."""
    draw = random.Random(seed)  # noqa: S311 -- it is to be the same each time
    bounded = [one for one in functions if not _UNSTOPPABLE.match(one["name"])]
    for _ in range(count):
        function = draw.choice(bounded)
        values = ", ".join(_value(draw, kind) for kind in function["takes"])
        yield f'select "{function["name"]}"({values}) from extractions x'  # noqa: S608 -- it is to be anything


def _value(draw: random.Random, kind: str) -> str:
    if kind.startswith(('"any', "any")):
        return draw.choice(_ANY)
    return f"({draw.choice(_VALUES.get(kind, _OTHERS))})::{kind}"
