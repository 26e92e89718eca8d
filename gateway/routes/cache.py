"""`/v1/cache`: why a request hits or misses, and taking back what is kept."""

from typing import Any, Final

from litestar import Request, delete, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from gateway import steering
from gateway.caller import Caller
from gateway.canonical import Request as Question
from gateway.errors import Forbidden, InvalidRequest, NoAnswer, StorageUnavailable
from gateway.routes.asked import decoder
from gateway.routes.described import asking
from gateway.routes.leaving import unless_left
from gateway.routes.parts import Parts
from gateway.routes.reading import decoded, hexadecimal, query, served_name
from gateway.wire.openai_responses.asked import Asked
from storage.closed import Kind
from storage.errors import StorageError, UnsureError
from storage.invalidations import Selector

_SELECTORS: Final[dict[str, Kind]] = {"model": "model", "tag": "tag", "prompt_hash": "prompt", "all": "all"}
_LONGEST_NAME: Final = 200
"""Of a model: far longer than any in use."""


@post(
    "/v1/cache/explain",
    summary="Explain a request's key",
    status_code=200,
    opt={"scope": "cache"},
    operation_class=asking(path="Where the request would be sent, such as /api/chat; without it, by its fields."),
)
async def explain(request: Request[Any, Caller, Any], parts: NamedDependency[Parts]) -> dict[str, Any]:
    """The body is any request, `path` where it would be sent; the reply is its canonical form, every part of its key,
    which tier would answer, and, when that is none, the nearest kept request and what differs.
    """
    question = await decoded(request, decoder(query(request, ("path",)).get("path")))
    return await unless_left(request.receive, _explained(question, request, parts))


@delete("/v1/cache/{key:str}", summary="Delete one answer", status_code=200, opt={"scope": "cache"})
async def delete_one(
    request: Request[Any, Caller, Any], parts: NamedDependency[Parts], key: FromPath[str]
) -> dict[str, Any]:
    """The answer of this key is not given any more, by any gateway.

    Where none is found one may still be under way, so that is deleted too. Whatever another tenant has under this key
    is neither touched nor told of.
    """
    selector = Selector("key", hexadecimal(key, "key"))
    caller = request.auth
    if caller.models is not None:
        found = (await parts.tiers.find(bytes.fromhex(selector.value), scope=caller.scope)).found
        if found is not None and not caller.may_see(found.entry.query):
            raise NoAnswer
    return await _deleted(parts, caller, selector)


@delete(
    "/v1/cache",
    summary="Delete answers",
    status_code=200,
    opt={"scope": "cache"},
    operation_class=asking(
        model="Exactly one of these four: answers of this model,",
        tag="with this tag,",
        prompt_hash="to the prompt of this hash,",
        all="or all of them.",
    ),
)
async def delete_many(request: Request[Any, Caller, Any], parts: NamedDependency[Parts]) -> dict[str, Any]:
    """The caller's answers of one `model`, `tag` or `prompt_hash`, or with `all=true` all of them, are not given any
    more, by any gateway.
    """
    selector = _selector(query(request, _SELECTORS))
    if selector.kind == "model":
        selector = Selector("model", served_name(parts.router, selector.value))
    models = request.auth.models
    if models is not None and not (selector.kind == "model" and selector.value in models):
        named = ", ".join(sorted(models))
        message = f"This key is for some models only: delete by one answer's key, or by ?model=… of: {named}."
        raise Forbidden(message, code="model_not_allowed")
    return await _deleted(parts, request.auth, selector)


async def _explained(question: Question | Asked, request: Request[Any, Caller, Any], parts: Parts) -> dict[str, Any]:
    wishes = steering.read(request.headers)
    if isinstance(question, Asked):
        question = await parts.conversations.question(question, request.auth)
    question, _ = await parts.searching.retriever.given(question, request.auth)
    return await parts.explainer.explain(question, request.auth, wishes)


async def _deleted(parts: Parts, caller: Caller, selector: Selector) -> dict[str, Any]:
    try:
        done = await parts.invalidations.add(caller.scope, selector)
    except UnsureError as error:
        message = "The database does not answer: whether this is deleted is not known. Ask again when it is back."
        raise StorageUnavailable(message) from error
    except StorageError as error:
        message = "The database cannot be reached, so nothing was deleted; try again when it is back."
        raise StorageUnavailable(message) from error
    return {"object": "cache.deleted", selector.kind: selector.value or True, "rows": done.rows, "epoch": done.id}


def _selector(params: dict[str, str]) -> Selector:
    """The one thing that is to be deleted. Raises `InvalidRequest`."""
    if len(params) != 1:
        message = f"Say what to delete by exactly one of: {', '.join(f'?{name}=…' for name in _SELECTORS)}."
        raise InvalidRequest(message, code="invalid_value")
    [(named, value)] = params.items()
    if named == "all" and value == "true":
        return Selector("all")
    if named == "all":
        message = "'all' must be 'true'."
        raise InvalidRequest(message, param=named, code="invalid_value")
    if named == "prompt_hash":
        return Selector("prompt", hexadecimal(value, named))
    # Each is remembered by every worker for days: not for what no answer can have.
    if not (steering.is_tag(value) if named == "tag" else value.isprintable() and len(value) <= _LONGEST_NAME):
        message = f"No answer can have this '{named}'."
        raise InvalidRequest(message, param=named, code="invalid_value")
    return Selector(_SELECTORS[named], value)
