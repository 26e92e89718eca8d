"""Which parameters each engine honours: the table behind every refusal, and behind docs/parameters.md."""

import itertools
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import msgspec

from gateway.canonical import Request
from gateway.errors import BackendRefused

Engine = Literal["vllm", "llamacpp", "ollama", "openai"]
Unsupported = Literal["refuse", "pass"]


class Can(msgspec.Struct, frozen=True):
    """What one engine makes of one parameter."""

    honours: bool = True
    called: str = ""
    """Its name there, where it is another."""
    most: int | None = None
    """The most items it takes."""
    note: str = ""
    """What a reader should know."""


YES = Can()
NO = Can(honours=False)


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter. `openai` stands for servers that nothing is known of: they are sent what came."""

    vllm: Can = NO
    llamacpp: Can = NO
    ollama: Can = NO
    openai: Can = YES
    nothing: Any = None
    """A value by which nothing is asked for, besides null, "", [], {} and false."""


def _note(text: str) -> Can:
    return Can(note=text)


def _called(name: str) -> Can:
    return Can(called=name)


def _everywhere(**others: Can) -> Parameter:
    return Parameter(**({"vllm": YES, "llamacpp": YES, "ollama": YES} | others))


_NOWHERE = Parameter()
_CHECKED = _note("what is said is checked by the gateway")
_TOLD = _note("by the engine where its template shows tools; else told in the prompt by the gateway")
_DATA = _note("as a data URL; refused where the model does not see")

PARAMETERS: Final[Mapping[str, Parameter]] = {
    "temperature": _everywhere(),
    "top_p": _everywhere(),
    "presence_penalty": _everywhere(),
    "frequency_penalty": _everywhere(),
    "max_tokens": _everywhere(ollama=_called("num_predict")),
    "stop": _everywhere(vllm=Can(most=4)),
    "seed": _everywhere(llamacpp=_note("modulo 2^32 - 1"), ollama=_note("modulo 2^31")),
    "n": _everywhere(
        vllm=_note("1 with temperature 0"),
        llamacpp=_note("as many as it has slots"),
        ollama=_note("one call for each choice, with seeds that follow each other"),
    ),
    "logprobs": _everywhere(),
    "top_logprobs": _everywhere(),
    "logit_bias": Parameter(
        vllm=_note("tokens it does not have are refused"), llamacpp=_note("tokens it does not have are refused")
    ),
    "top_k": _everywhere(),
    "min_p": _everywhere(),
    "repetition_penalty": _everywhere(llamacpp=_called("repeat_penalty"), ollama=_called("repeat_penalty")),
    "repeat_penalty": _everywhere(vllm=_called("repetition_penalty")),
    "typical_p": Parameter(llamacpp=YES, ollama=YES),
    "mirostat": Parameter(llamacpp=YES, ollama=YES),
    "repeat_last_n": Parameter(llamacpp=YES, ollama=YES),
    "min_tokens": Parameter(vllm=_note("at most `max_tokens`"), nothing=0),
    "stop_token_ids": Parameter(vllm=YES),
    "bad_words": Parameter(vllm=YES),
    "allowed_token_ids": Parameter(vllm=YES),
    "ignore_eos": Parameter(vllm=YES, llamacpp=YES),
    "use_beam_search": _NOWHERE,  # it gives no stream, and a stream is what is asked for
    "tools": _everywhere(vllm=_TOLD, llamacpp=_TOLD, ollama=_TOLD),
    "tool_choice": _everywhere(),
    "parallel_tool_calls": _everywhere(),
    "response_format": _everywhere(vllm=_CHECKED, llamacpp=_CHECKED, ollama=_CHECKED, openai=_CHECKED),
    "reasoning_effort": _everywhere(
        vllm=_note("refused where the template does not read it, as far as `/tokenize` can tell"),
        llamacpp=_note("refused where the template does not read it"),
        ollama=_note("as `think`: none, low, medium or high; refused where the model does not think"),
    ),
    "think": Parameter(ollama=YES),
    "structured_outputs": Parameter(vllm=_note("not with `tools` or `response_format`")),
    "grammar": Parameter(llamacpp=_note("not with `tools` or `response_format`")),
    "json_schema": Parameter(llamacpp=_note("not with `tools` or `response_format`")),
    "image_url": _everywhere(vllm=_DATA, llamacpp=_DATA, ollama=_DATA, openai=_note("as a data URL")),
    "input_audio": Parameter(vllm=_note("where the model hears"), llamacpp=_note("where the model hears")),
    "file": _NOWHERE,
    "echo": Parameter(vllm=_note("of texts; refused for token ids")),
    "suffix": Parameter(vllm=_note("where the model can insert"), ollama=_note("where the model can insert")),
    "best_of": _NOWHERE,
    "dimensions": Parameter(vllm=_note("of Matryoshka models"), ollama=YES),
    "functions": _NOWHERE,
    "function_call": Parameter(nothing="none"),
    "modalities": Parameter(nothing=["text"]),
    "audio": _NOWHERE,
    "prediction": _NOWHERE,
    "web_search_options": _NOWHERE,
    "verbosity": Parameter(nothing="medium"),
    "guided_json": _NOWHERE,
    "guided_regex": _NOWHERE,
    "guided_choice": _NOWHERE,
    "guided_grammar": _NOWHERE,
    "guided_whitespace_pattern": _NOWHERE,
    # What a reply in OpenAI's form has no place for.
    "prompt_logprobs": _NOWHERE,
    "return_token_ids": _NOWHERE,
    # llama.cpp's own fields that change how many choices there are or what is in them, or end an answer by the clock.
    "n_cmpl": _NOWHERE,
    "n_probs": _NOWHERE,
    "post_sampling_probs": _NOWHERE,
    "response_fields": _NOWHERE,
    "t_max_predict_ms": _NOWHERE,
}
"""Parameters of requests and, in the same namespace, kinds of parts of messages. What is not here is passed on."""

PARTS: Final = frozenset({"image_url", "input_audio", "file"})
"""The rows that are parts of messages."""


def of(name: str, engine: Engine) -> Can:
    """What `engine` makes of the parameter `name`; one nobody knows is passed on."""
    known = PARAMETERS.get(name)
    return getattr(known, engine) if known else YES


_LIMITS: Final[Mapping[Engine, Mapping[str, Can]]] = {
    engine: {name: can for name in PARAMETERS if not (can := of(name, engine)).honours or can.most is not None}
    for engine in get_args(Engine)
}
"""What each engine does not honour, or not all of."""


_NAMES: Final[Mapping[Engine, Mapping[str, str]]] = {
    engine: {name: can.called for name in PARAMETERS if (can := of(name, engine)).called} for engine in get_args(Engine)
}


def names(engine: Engine) -> Mapping[str, str]:
    """Parameters that have another name there."""
    return _NAMES[engine]


def expect(backend: str, engine: Engine, request: Request) -> None:
    """Refuse what the engine would ignore: an answer to another question must not be given, nor kept."""
    limits = _LIMITS[engine]
    for name, value in itertools.chain(request.params.items(), request.prompt.items(), request.extra.items()):
        if (can := limits.get(name)) is None:
            continue
        if not can.honours and not _asks_nothing(name, value):
            refuse(backend, name)
        if can.most is not None and isinstance(value, list) and len(value) > can.most:
            message = f"Backend '{backend}' takes at most {can.most} items in '{name}'."
            raise BackendRefused(message, status=400, code="unsupported_parameter", param=name)


def refuse(backend: str, name: str) -> None:
    """Say that the engine cannot do `name`."""
    message = f"Backend '{backend}' cannot do '{name}'; leave it out, or ask a model of another engine."
    raise BackendRefused(message, status=400, code="unsupported_parameter", param=name)


def _asks_nothing(name: str, value: Any) -> bool:
    # By identity where Python would take 0 for false.
    nothing = PARAMETERS[name].nothing
    return value is None or value is False or value in ("", [], {}) or (nothing is not None and value == nothing)
