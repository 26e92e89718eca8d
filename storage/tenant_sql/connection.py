"""A session of a tenant's role: what it may not call is not called for it, and values arrive as JSON can say them."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

import asyncpg
import msgspec

# Numbers that pg_type.dat has given these for ever: nothing has to be asked of the server to read them.
_NUMBERS: Final = {"float4": 700, "float8": 701, "numeric": 1700}
_JSON: Final = {"json": 114, "jsonb": 3802}
_TEXTS: Final = {
    "bytea": 17,
    "char": 18,
    "xid": 28,
    "cid": 29,
    "point": 600,
    "lseg": 601,
    "path": 602,
    "box": 603,
    "polygon": 604,
    "line": 628,
    "cidr": 650,
    "circle": 718,
    "macaddr8": 774,
    "money": 790,
    "macaddr": 829,
    "inet": 869,
    "date": 1082,
    "time": 1083,
    "timestamp": 1114,
    "timestamptz": 1184,
    "interval": 1186,
    "timetz": 1266,
    "bit": 1560,
    "varbit": 1562,
    "uuid": 2950,
    "txid_snapshot": 2970,
    "pg_lsn": 3220,
    "tsvector": 3614,
    "tsquery": 3615,
    "jsonpath": 4072,
    "pg_snapshot": 5038,
    "xid8": 5069,
    "tid": 27,
}  # fmt: skip -- a table
_NOT_FINITE: Final = frozenset({"NaN", "Infinity", "-Infinity"})


def _number(text: str) -> Any:
    """As many digits as Postgres has; what JSON has no number for is its name."""
    return text if text in _NOT_FINITE else msgspec.Raw(text.encode())


def _json(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


class _Counted(asyncio.Protocol):
    """Between the socket and asyncpg, which puts a message together as a whole, however large: one that is too much is
    not read on.
    """

    def __init__(self, reader: asyncio.Protocol, transport: asyncio.Transport) -> None:
        self.left: int | None = None
        """How many bytes may still come; None is any number."""
        self.overflowed = False
        self.eof_received = reader.eof_received
        self.connection_lost = reader.connection_lost
        self.pause_writing = reader.pause_writing
        self.resume_writing = reader.resume_writing
        self._reader = reader
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand it on, or end the session."""
        if self.left is not None:
            self.left -= len(data)
            if self.left < 0:
                self.overflowed = True
                self._transport.abort()
                return
        self._reader.data_received(data)


class TenantConnection(asyncpg.Connection):
    """asyncpg's connection, which otherwise calls functions that tenants have not, and fails on dates that Python has
    not. What is neither text, a number, a truth value, JSON nor an array of such is text as Postgres writes it.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        own = cast("Any", self)
        self._counted = _Counted(own._protocol, own._transport)
        own._transport.set_protocol(self._counted)
        own._server_caps = own._server_caps._replace(jit=False)  # or it turns JIT off while it asks about types
        self._read(_TEXTS, str)
        self._read(_NUMBERS, _number)
        self._read(_JSON, _json)

    def bound(self, max_bytes: int | None) -> None:
        """From now on read no more than this; what is more ends the session, and `overflowed` says so."""
        self._counted.left = max_bytes

    @property
    def overflowed(self) -> bool:
        """Whether it has ended because too much came."""
        return self._counted.overflowed

    def get_reset_query(self) -> str:
        """Nothing: no statement of a tenant leaves anything behind."""
        return ""

    async def _introspect_types(self, typeoids: Iterable[int], timeout: float | None) -> Any:
        """What asyncpg does not know: arrays of what it knows it may learn; the rest is read as text."""
        types, statement = await cast("Any", super())._introspect_types(typeoids, timeout)
        learnt = [row for row in types if row["elemtype"] and self._knows(row["elemtype"])]
        arrays = {row["oid"] for row in learnt}
        for row in types:
            if row["oid"] not in arrays and not self._knows(row["oid"]):
                self._read({row["name"]: row["oid"]}, str, row["ns"])
        for oid in typeoids:
            if oid not in arrays and not self._knows(oid):  # a type of none, such as anyarray
                self._read({str(oid): oid}, str)
        return learnt, statement

    def _knows(self, oid: int) -> bool:
        return cast("Any", self)._protocol.get_settings().get_data_codec(oid) is not None

    def _read(self, types: dict[str, int], decode: Callable[[str], Any], schema: str = "pg_catalog") -> None:
        settings = cast("Any", self)._protocol.get_settings()
        for name, oid in types.items():
            settings.add_python_codec(oid, name, schema, [], "scalar", str, decode, "text")
