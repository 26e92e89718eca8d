"""Between a request and one engine: what it cannot do is done here or refused, and its answer is understood."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, Final

import msgspec

from gateway.backends import blame, limits, parameters, parts, probabilities, turns
from gateway.backends.constraints import GUIDED
from gateway.backends.forms import Form, Manners, form
from gateway.backends.parameters import Engine
from gateway.backends.understanding import Choice, Promise
from gateway.canonical import Request
from gateway.errors import BackendError, BackendRefused, UnfitAnswer
from gateway.steps import Batches, Steps, together, until_fault
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

    def answer(self, request: Request, ask: Ask) -> Steps:
        """The answer's steps. Raises `InvalidRequest`, `UnfitAnswer` and every other `BackendError`."""
        return Steps(self._answer(request, ask))

    async def _answer(self, request: Request, ask: Ask) -> Batches:
        self.expect(request)
        if self._manners.unsupported == "refuse":
            await self._expect_sight(request)
            await self._expect_effort(request)
            await self._expect_tokens(request)
            await self._expect_slots(request)
        shaped = await self._form(request) if request.kind == "chat" else Form(request)
        hearing = _Hearing(self._name, request, shaped.promise)
        async with aclosing(self._said(shaped, ask)) as arriving:
            async for some in arriving:
                given, fault = hearing.all_of(some)
                if given:
                    yield given
                if fault is not None:
                    raise fault

    def expect(self, request: Request) -> None:
        """Refuse what the engine cannot honour, unless the operator lets it pass. Raises `BackendRefused`."""
        if self._manners.unsupported == "refuse":
            parameters.expect(self._name, self._manners.engine, request)
            limits.expect(self._name, self._manners.engine, request)
        grammar: Any = request.extra.get("grammar")
        if self._manners.constrains != "guided" and isinstance(grammar, str) and grammar.startswith(GUIDED):
            parameters.refuse(self._name, "grammar")  # whatever passes: such a llama.cpp would end

    async def _said(self, shaped: Form, ask: Ask) -> Batches:
        """What the engine says; asked again in a plainer way when it refuses the tightest, and with neighbours of one
        role made one when its template wants turns to alternate.
        """
        if self._alternates:
            shaped = msgspec.structs.replace(shaped, request=turns.alternating(shaped.request))
        place = 0
        while True:
            begun = False
            try:
                async with aclosing(together(ask(shaped.request, shaped.ways[place]))) as arriving:
                    with blame.naming(shaped.request):
                        async for some in arriving:
                            begun = True
                            yield some
            except BackendRefused as refused:
                if begun or (again := self._again(refused, shaped, place)) is None:
                    raise
                shaped, place = again
            else:
                return

    def _again(self, refused: BackendRefused, shaped: Form, place: int) -> tuple[Form, int] | None:
        """How it is asked after it refused the way at `place`; None when there is no other."""
        if refused.code == "template_refused":
            joined = turns.alternating(shaped.request)
            if joined is shaped.request:
                return None
            self._alternates = True
            return msgspec.structs.replace(shaped, request=joined), 0
        return (shaped, place + 1) if refused.status == 400 and place + 1 < len(shaped.ways) else None

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


class _Hearing:
    """Understands the steps of one answer."""

    def __init__(self, name: str, request: Request, promise: Promise | None) -> None:
        self._name = name
        self._request = request
        self._promise = promise
        self._choices: dict[int, Choice] = {}
        self._places = probabilities.Offsets() if probabilities.wanted(request) is not None else None
        self._spoke = self._likely = False

    def all_of(self, some: Sequence[Chunk]) -> tuple[Sequence[Chunk], BackendError | None]:
        """What the client hears of `some`, and the fault that comes after that, if any."""
        if not (self._promise or self._places or self._choices or any([step.tool_calls for step in some])):  # noqa: C419 -- several times as fast as a generator
            return some, None
        return until_fault(map(self.hear, some))

    def hear(self, step: Chunk) -> Chunk | None:
        """What the client hears of `step`. Raises `BackendError`."""
        if self._places:
            step = self._placed(step, self._places)
        if (choice := self._choice(step)) is None:
            return step
        with _blaming_stop(self._request):
            return choice.hear(step)

    def _placed(self, step: Chunk, places: probabilities.Offsets) -> Chunk:
        self._spoke, self._likely = self._spoke or bool(step.content), self._likely or step.logprobs is not None
        if step.usage and self._spoke and not self._likely:
            parameters.refuse(self._name, "logprobs")  # an older engine that does not know them
        return places.placed(step)

    def _choice(self, step: Chunk) -> Choice | None:
        """Who hears `step`; nobody needs to where nothing was promised and nothing is called."""
        if step.usage is not None:
            return None
        if (self._promise or step.tool_calls) and step.index not in self._choices:
            self._choices[step.index] = Choice(self._promise or Promise(), step.index)
        return self._choices.get(step.index)


@contextmanager
def _blaming_stop(request: Request) -> Generator[None]:
    """Say that an answer that does not fit may have been ended by the client's own words."""
    try:
        yield
    except UnfitAnswer as unfit:
        if request.params.get("stop"):
            raise UnfitAnswer(f"{unfit} It may be one of 'stop' that ended it: leave those out.") from unfit
        raise


def _is_token(token: str, count: int | None) -> bool:
    return token.isascii() and token.isdigit() and (count is None or int(token) < count)
