"""Between a request and one engine: what it cannot do is done here or refused, and its answer is understood."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, Final

import msgspec

from gateway.backends import blame, limits, parameters, parts, probabilities, turns
from gateway.backends.constraints import GUIDED
from gateway.backends.forms import Form, Manners, form
from gateway.backends.parameters import Engine
from gateway.backends.understanding import Choice, Promise
from gateway.canonical import Request
from gateway.errors import BackendRefused, UnfitAnswer
from storage.entry import Chunk

Ask = Callable[[Request, Mapping[str, Any]], AsyncGenerator[Chunk]]
"""Asks the engine, with some fields more in the body."""

_LARGE_BYTES: Final = 2**18
_TELLING: Final = frozenset[Engine]({"llamacpp", "ollama"})
"""Engines that tell what their model can do, and do not always say so when they are asked for what it cannot."""


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says that it and its model can do; None where it does not say."""

    tools: bool | None = None
    vision: bool | None = None
    effort: bool | None = None
    """Whether `reasoning_effort` means anything to it."""
    vocabulary: int | None = None
    """How many tokens there are."""
    slots: int | None = None
    """How many choices it makes at most."""


class Interpreter:
    """Speaks to one engine. Its `abilities` are asked for when they matter."""

    def __init__(
        self,
        name: str,
        manners: Manners,
        abilities: Callable[[], Awaitable[Abilities]],
        effort: Callable[[], Awaitable[bool | None]] | None = None,
    ) -> None:
        """`effort` is asked for apart where it is not among the `abilities`."""
        self._name = name
        self._manners = manners
        self._ask_abilities = abilities
        self._ask_effort = effort
        self._effort: tuple[bool | None] | None = None
        self._abilities: Abilities | None = None
        self._alternates = False
        """Whether its template was heard to refuse turns of one role that follow each other."""

    def forget(self) -> None:
        """Another model may be there now: its abilities are asked for again."""
        self._abilities = self._effort = None
        self._alternates = False

    async def answer(self, request: Request, ask: Ask) -> AsyncGenerator[Chunk]:
        """The answer's steps. Raises `InvalidRequest`, `UnfitAnswer` and every other `BackendError`."""
        self.expect(request)
        if self._manners.unsupported == "refuse":
            await self._expect_sight(request)
            await self._expect_effort(request)
            await self._expect_tokens(request)
            await self._expect_slots(request)
        shaped = await self._form(request) if request.kind == "chat" else Form(request)
        choices: dict[int, Choice] = {}
        places = probabilities.Offsets() if probabilities.wanted(request) is not None else None
        spoke = likely = False
        async with aclosing(self._steps(shaped, ask)) as steps:
            async for said in steps:
                spoke, likely = spoke or bool(said.content), likely or said.logprobs is not None
                if said.usage and places and spoke and not likely:
                    parameters.refuse(self._name, "logprobs")  # an older engine that does not know them
                step = places.placed(said) if places else said
                choice = _choice(step, choices, shaped.promise)
                with _blaming_stop(request):
                    heard = choice.hear(step) if choice else step
                if heard is not None:
                    yield heard

    def expect(self, request: Request) -> None:
        """Refuse what the engine cannot honour, unless the operator lets it pass. Raises `BackendRefused`."""
        if self._manners.unsupported == "refuse":
            parameters.expect(self._name, self._manners.engine, request)
            limits.expect(self._name, self._manners.engine, request)
        grammar: Any = request.extra.get("grammar")
        if self._manners.constrains != "guided" and isinstance(grammar, str) and grammar.startswith(GUIDED):
            parameters.refuse(self._name, "grammar")  # whatever passes: such a llama.cpp would end

    async def _steps(self, shaped: Form, ask: Ask) -> AsyncGenerator[Chunk]:
        """The engine's steps. Where its template wants turns to alternate, neighbours of one role are made one."""
        apart = shaped.request
        if self._alternates:
            shaped = msgspec.structs.replace(shaped, request=turns.alternating(apart))
        begun = False
        try:
            async with aclosing(_asked(shaped, ask)) as steps:
                async for step in steps:
                    begun = True
                    yield step
        except BackendRefused as refused:
            together = turns.alternating(shaped.request)
            if begun or refused.code != "template_refused" or together is shaped.request:
                raise
            self._alternates = True
        else:
            return
        async with aclosing(_asked(msgspec.structs.replace(shaped, request=together), ask)) as steps:
            async for step in steps:
                yield step

    async def _form(self, request: Request) -> Form:
        """How it is asked; that of a large request is made in a thread."""
        native = request.about_tools and await self._shows_tools()
        if request.size_bytes > _LARGE_BYTES:
            return await asyncio.to_thread(form, self._name, self._manners, request, native=native)
        return form(self._name, self._manners, request, native=native)

    async def _shows_tools(self) -> bool:
        if self._manners.tools == "auto":
            return bool((await self._known()).tools)
        return self._manners.tools == "native"

    async def _expect_sight(self, request: Request) -> None:
        """Refuse pictures that are elsewhere, and those for a model that does not see."""
        pictures = parts.check(self._name, self._manners.engine, request.prompt.get("messages", ()))
        if pictures and self._manners.engine in _TELLING and (await self._known()).vision is False:
            message = f"Backend '{self._name}' does not support image input; ask a model that sees."
            raise BackendRefused(message, status=400, code="unsupported_content", param="messages")

    async def _expect_effort(self, request: Request) -> None:
        """Refuse an effort that the model would not make."""
        if request.prompt.get("reasoning_effort", "none") != "none" and await self._makes_efforts() is False:
            parameters.refuse(self._name, "reasoning_effort")

    async def _makes_efforts(self) -> bool | None:
        if self._ask_effort is None:
            return (await self._known()).effort if self._manners.engine in _TELLING else None
        if self._effort is None:
            self._effort = (await self._ask_effort(),)
        return self._effort[0]

    async def _expect_tokens(self, request: Request) -> None:
        """Refuse biases for tokens that do not exist, which llama.cpp would ignore."""
        bias = request.params.get("logit_bias")
        if not bias or self._manners.engine not in _TELLING:
            return
        count = (await self._known()).vocabulary
        if (wrong := next((token for token in bias if not _is_token(token, count)), None)) is not None:
            message = f"'logit_bias' has the token {wrong!r}; the model's are 0 to {count - 1 if count else '…'}."
            raise BackendRefused(message, status=400, code="invalid_value", param="logit_bias")

    async def _expect_slots(self, request: Request) -> None:
        """Refuse more choices than llama.cpp has slots."""
        if request.params.get("n", 1) > 1 and self._manners.engine == "llamacpp":
            most = (await self._known()).slots
            if most is not None and request.params["n"] > most:
                limits.refuse(self._name, "n", f"it has {most} slots, so 'n' can be {most} at most")

    async def _known(self) -> Abilities:
        if self._abilities is None:
            self._abilities = await self._ask_abilities()
        return self._abilities


@contextmanager
def _blaming_stop(request: Request) -> Generator[None]:
    """Say that an answer that does not fit may have been ended by the client's own words."""
    try:
        yield
    except UnfitAnswer as unfit:
        if request.params.get("stop"):
            raise UnfitAnswer(f"{unfit} It may be one of 'stop' that ended it: leave those out.") from unfit
        raise


def _choice(step: Chunk, choices: dict[int, Choice], promise: Promise | None) -> Choice | None:
    """Who hears `step`; nobody needs to where nothing was promised and nothing is called."""
    if step.usage is not None:
        return None
    if step.index not in choices and (promise or step.tool_calls):
        choices[step.index] = Choice(promise or Promise(), step.index)
    return choices.get(step.index)


async def _asked(shaped: Form, ask: Ask) -> AsyncGenerator[Chunk]:
    """The engine's steps; asked again in a plainer way when it refuses the tightest."""
    for place, way in enumerate(shaped.ways):
        begun = False
        try:
            async with aclosing(ask(shaped.request, way)) as steps:
                with blame.naming(shaped.request):
                    async for step in steps:
                        begun = True
                        yield step
        except BackendRefused as refused:
            if begun or refused.status != 400 or refused.code == "template_refused" or place == len(shaped.ways) - 1:
                raise
        else:
            return


def _is_token(token: str, count: int | None) -> bool:
    return token.isascii() and token.isdigit() and (count is None or int(token) < count)
