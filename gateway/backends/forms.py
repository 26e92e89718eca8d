"""A request and how an engine is spoken to -> what the engine is asked, and what its answer shall be. Pure."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final, Literal, NoReturn

import msgspec

from gateway.backends import constraints, parameters
from gateway.backends.constraints import Constraint, Format, Manner
from gateway.backends.parameters import Engine, Unsupported
from gateway.backends.schemas import Schema
from gateway.backends.tools import rendering
from gateway.backends.tools.offered import Offer, offer
from gateway.backends.tools.reading import CLOSE
from gateway.backends.understanding import Promise
from gateway.canonical import Request
from gateway.errors import BackendRefused, InvalidRequest

Tools = Literal["auto", "native", "prompted", "refused"]
"""How tools reach the model: as the server says it can, by the engine, in the prompt, or not at all."""

_FORCES: Final = frozenset[Engine]({"vllm", "llamacpp", "openai"})
"""Engines that can be told that something must be called, or no more than once."""
_OWN_CONSTRAINTS: Final = ("grammar", "json_schema", "structured_outputs")
_TOOL_FIELDS: Final = frozenset({"tools", "tool_choice", "parallel_tool_calls"})


class Manners(msgspec.Struct, frozen=True, kw_only=True):
    """How one backend is spoken to."""

    engine: Engine
    constrains: Manner
    tools: Tools = "auto"
    unsupported: Unsupported = "refuse"


class Form(msgspec.Struct, frozen=True):
    """What is asked, and what was promised."""

    request: Request
    promise: Promise | None = None
    """None where nothing was: the answer is passed on as it is."""
    ways: tuple[Mapping[str, Any], ...] = ({},)
    """Fields that say what the answer has to be, the tightest first: an older engine may not know them."""


def form(name: str, manners: Manners, request: Request, *, native: bool) -> Form:
    """How the backend `name` is asked; `native` where its engine itself shows tools to the model.

    Raises `InvalidRequest` and `BackendRefused`, naming the field at fault.
    """
    shaper = _Shaper(name, manners, request)
    return shaper.with_tools(native=native) if request.about_tools else shaper.without_tools()


class _Shaper:
    """Shapes one request."""

    def __init__(self, name: str, manners: Manners, request: Request) -> None:
        self._name = name
        self._manners = manners
        self._request = request
        self._format = _format(request, manners.engine)
        self._schema = self._format.schema if self._format else None

    def without_tools(self) -> Form:
        """Only the text is constrained, if anything is. What is said of calls means nothing without tools."""
        told = _without(self._request, _TOOL_FIELDS & self._request.prompt.keys())
        if self._format is None:
            return Form(told)
        promise = Promise(schema=self._schema) if self._request.extraction is None else None
        return self._constrained(told, promise, Constraint(self._format.schema.said, self._format))

    def with_tools(self, *, native: bool) -> Form:
        """By the engine where that is `native` to it, else in the prompt."""
        if self._manners.tools == "refused":
            parameters.refuse(self._name, "tools")
        if native and self._manners.engine == "openai":  # nothing is known of it, not even what kinds of tools it has
            return Form(self._request, Promise(schema=self._schema, ids=_ids(self._request)))
        offered = offer(self._request)
        forced = offered.open and (offered.choice == "required" or not offered.several)
        if native and not (forced and self._manners.engine not in _FORCES):
            return self._by_engine(offered)
        if native and self._manners.tools == "native":
            parameters.refuse(self._name, "tool_choice" if offered.choice == "required" else "parallel_tool_calls")
        return self._in_prompt(offered)

    def _by_engine(self, offered: Offer) -> Form:
        """One named function is the only one offered, which every engine understands."""
        prompt: dict[str, Any] = {}
        if offered.open or (offered.tools and self._manners.engine != "ollama"):  # it has no word for "none"
            prompt = {"tools": [tool.said for tool in offered.tools]}
            prompt |= {"tool_choice": offered.choice} if offered.choice != "auto" else {}
            if not offered.several or self._manners.engine == "llamacpp":  # whose own default is one call
                prompt["parallel_tool_calls"] = offered.several
        told = _with(_without(self._request, _TOOL_FIELDS), prompt)
        promise = Promise(offered, self._schema, ids=_ids(self._request))
        if self._format is None or self._manners.engine != "ollama":
            return Form(told, promise)
        if offered.open:
            self._refuse_both()
        return self._constrained(told, promise, Constraint(self._format.schema.said, self._format))

    def _in_prompt(self, offered: Offer) -> Form:
        messages = rendering.rendered(self._request.prompt["messages"], offered)
        told = _with(_without(self._request, _TOOL_FIELDS), {"messages": messages})
        promise = Promise(offered, self._schema, written=True, ids=_ids(self._request))
        if offered.open:
            constraint = constraints.of_calls(offered, self._format)
            if self._format and constraint.calls and constraints.said(constraint, self._manners.constrains) is None:
                self._refuse_both()
            return self._constrained(told, promise, constraint, once=not offered.several)
        if self._format is None:
            return Form(told)
        return self._constrained(told, promise, Constraint(self._format.schema.said, self._format))

    def _constrained(
        self, told: Request, promise: Promise | None, constraint: Constraint, *, once: bool = False
    ) -> Form:
        """With the answer held to `constraint` as far as the engine can. Where it cannot, the first call ends it."""
        for name in _OWN_CONSTRAINTS:
            if told.extra.get(name):
                message = f"'{name}' and 'tools' or 'response_format' cannot both say what the answer has to be."
                raise InvalidRequest(message, param=name, code="invalid_value")
        manners: tuple[Manner, ...] = (self._manners.constrains,)
        manners += ("plain",) if self._manners.constrains == "structural" else ()
        ways = [constraints.said(constraint, manner) for manner in manners]
        told = _without(told, frozenset({"response_format"}))
        if once and ways == [None]:
            told = msgspec.structs.replace(told, params=told.params | {"stop": [*told.params.get("stop", ()), CLOSE]})
        return Form(told, promise, tuple(way or {} for way in ways))

    def _refuse_both(self) -> NoReturn:
        message = f"Backend '{self._name}' cannot do 'response_format' together with tools that it may leave alone."
        raise BackendRefused(message, status=400, code="unsupported_parameter", param="response_format")


def _format(request: Request, engine: Engine) -> Format | None:
    """The `response_format` that the gateway has to see to; None where there is none, or the engine has its own."""
    asked: Any = request.prompt.get("response_format")
    match asked:
        case None:
            return None
        case {"type": "json_object"}:
            return Format(asked, Schema({"type": "object"}, "response_format"))
        case {"type": "json_schema", "json_schema": {"schema": dict() | bool() as schema}}:
            return Format(asked, Schema(schema, "response_format"))
        case {"type": str(other)} if other != "json_schema" and (engine == "openai" or other == "structural_tag"):
            if engine in {"openai", "vllm"}:
                return None
        case _:
            pass
    message = "'response_format' must be of the type 'text', 'json_object', or 'json_schema' with a 'schema'."
    raise InvalidRequest(message, param="response_format", code="unsupported_parameter")


def _without(request: Request, names: frozenset[str]) -> Request:
    if not names:
        return request
    prompt = {name: value for name, value in request.prompt.items() if name not in names}
    return msgspec.structs.replace(request, prompt=prompt)


def _with(request: Request, fields: Mapping[str, Any]) -> Request:
    return msgspec.structs.replace(request, prompt=request.prompt | dict(fields))


def _ids(request: Request) -> str:
    """What ids of calls in answers to `request` begin with: no other turn of a conversation has the same."""
    return hashlib.sha256(msgspec.json.encode(request.prompt, order="deterministic")).hexdigest()[:20]
