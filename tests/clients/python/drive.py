"""Drives a server with the libraries that programs ask models through: one named case after another, one JSON out.

    python drive.py URL MODEL [CASE …]

It runs in an environment of its own (`libraries.lock`), since these libraries want other versions of what askonce and
its tests use. Each case gives {"ok": true, "value": …} or {"ok": false, "error": {…}}; the test judges them.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

URL, MODEL = sys.argv[1:3]
V1 = f"{URL}/v1"
QUESTION = "What is the capital of France?"

# OpenAI's tokenizer is fetched from the network when it is first used; LlamaIndex brings its file.
os.environ["TIKTOKEN_CACHE_DIR"] = str(
    next(Path(sys.prefix).glob("lib/python3*/site-packages/llama_index/core/_static/tiktoken_cache"), "")
)
os.environ["LANGSMITH_TRACING"] = "false"


def langchain_chat() -> Any:
    """LangChain's ChatOpenAI, with everything but the server and the model left as it is."""
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(base_url=V1, api_key="none", model=MODEL, temperature=0, max_retries=0)
    whole = model.invoke(QUESTION)
    pieces = list(model.stream(QUESTION))
    batch = [reply.content for reply in model.batch([QUESTION, QUESTION])]
    later = asyncio.run(model.ainvoke([("system", "Be brief."), ("human", QUESTION)])).content
    return {
        "text": whole.content,
        "finish": whole.response_metadata["finish_reason"],
        "usage": dict(whole.usage_metadata or {}),
        "streamed": "".join(piece.content for piece in pieces),
        "pieces": len(pieces),
        "batch": batch,
        "async": later,
    }


def langchain_responses() -> Any:
    """The same by `/v1/responses`, which LangChain takes when asked to; a second turn follows the first by its id."""
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(base_url=V1, api_key="none", model=MODEL, temperature=0, max_retries=0, use_responses_api=True)
    whole = model.invoke(QUESTION)
    streamed = "".join(piece.text for piece in model.stream(QUESTION))
    followed = model.invoke("And of Italy?", previous_response_id=whole.response_metadata["id"])
    both = model.invoke([("human", QUESTION), whole, ("human", "And of Italy?")])
    return {
        "text": whole.text,
        "streamed": streamed,
        "usage": dict(whole.usage_metadata or {}),
        "followed": followed.text,
        "sent again": both.text,
    }


def langchain_structured() -> Any:
    """An object by a JSON schema."""
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(base_url=V1, api_key="none", model=MODEL, temperature=0, max_retries=0)
    return model.with_structured_output(_capital(), method="json_schema").invoke(QUESTION).model_dump()


def langchain_tools() -> Any:
    """Functions, by either API: one call of the one that is named, whole and streamed, and its result told."""
    return {name: _langchain_tools(use_responses_api=api) for name, api in (("chat", False), ("responses", True))}


def _langchain_tools(*, use_responses_api: bool) -> Any:
    from langchain_core.messages import ToolMessage
    from langchain_openai import ChatOpenAI

    settings = {"base_url": V1, "api_key": "none", "model": MODEL, "temperature": 0, "max_retries": 0}
    model = ChatOpenAI(**settings, use_responses_api=use_responses_api)
    bound = model.bind_tools([_capital()], tool_choice="Capital")
    whole = bound.invoke(QUESTION)
    pieces = list(bound.stream(QUESTION))
    streamed = pieces[0]
    for piece in pieces[1:]:
        streamed += piece
    (call,) = whole.tool_calls
    told = [("human", QUESTION), whole, ToolMessage("Yes.", tool_call_id=call["id"])]
    after = model.bind_tools([_capital()], tool_choice="none", max_tokens=16).invoke(told)
    structured = model.with_structured_output(_capital(), method="function_calling").invoke(QUESTION)
    return {
        "calls": whole.tool_calls,
        "streamed": streamed.tool_calls,
        "pieces": len(pieces),
        "after": after.text,
        "structured": structured.model_dump(),
    }


def langchain_ollama_tools() -> Any:
    """Ollama's API has no way to say that something must be called: text, calls, or both."""
    from langchain_ollama import ChatOllama

    model = ChatOllama(base_url=URL, model=MODEL, temperature=0, num_predict=40).bind_tools([_capital()])
    whole, pieces = model.invoke(QUESTION), list(model.stream(QUESTION))
    return {
        "text": whole.content,
        "calls": [call["name"] for call in whole.tool_calls],
        "streamed": "".join(piece.content for piece in pieces),
        "streamed calls": [call["name"] for piece in pieces for call in piece.tool_calls],
    }


def langchain_embeddings() -> Any:
    """Texts as they are."""
    from langchain_openai import OpenAIEmbeddings

    model = OpenAIEmbeddings(base_url=V1, api_key="none", model=MODEL, check_embedding_ctx_length=False, max_retries=0)
    return {"documents": model.embed_documents(["one", "two", "one"]), "query": model.embed_query("one")}


def langchain_embeddings_of_tokens() -> Any:
    """As LangChain sends them unless told otherwise: as numbers of OpenAI's tokens."""
    from langchain_openai import OpenAIEmbeddings

    model = OpenAIEmbeddings(base_url=V1, api_key="none", model=MODEL, max_retries=0)
    return {"documents": model.embed_documents(["1", "2", "1"])}


def langchain_ollama() -> Any:
    """Ollama's API, chat and embeddings."""
    from langchain_ollama import ChatOllama, OllamaEmbeddings

    model = ChatOllama(base_url=URL, model=MODEL, temperature=0)
    whole = model.invoke(QUESTION)
    return {
        "text": whole.content,
        "streamed": "".join(piece.content for piece in model.stream(QUESTION)),
        "usage": dict(whole.usage_metadata or {}),
        "structured": model.with_structured_output(_capital(), method="json_schema").invoke(QUESTION).model_dump(),
        "documents": OllamaEmbeddings(base_url=URL, model=MODEL).embed_documents(["one", "two", "one"]),
    }


def llama_index_chat() -> Any:
    """LlamaIndex's class for servers that speak OpenAI's API: conversations and plain prompts."""
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai_like import OpenAILike

    settings = {"api_base": V1, "api_key": "none", "model": MODEL, "temperature": 0.0, "max_retries": 0}
    model = OpenAILike(is_chat_model=True, context_window=2048, **settings)
    said = [ChatMessage(role="user", content=QUESTION)]
    plain = OpenAILike(is_chat_model=False, context_window=2048, max_tokens=4, **settings)
    return {
        "text": model.chat(said).message.content,
        "streamed": list(model.stream_chat(said))[-1].message.content,
        "async": asyncio.run(model.achat(said)).message.content,
        "completed": model.complete(QUESTION).text,
        "plain": plain.complete("Repeat").text,
    }


def llama_index_embeddings() -> Any:
    """Its embeddings, one by one and many."""
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    model = OpenAILikeEmbedding(api_base=V1, api_key="none", model_name=MODEL, max_retries=0)
    return {
        "documents": model.get_text_embedding_batch(["one", "two", "one"]),
        "query": model.get_query_embedding("one"),
    }


def instructor_schema() -> Any:
    """An object by a JSON schema, whole and growing."""
    import instructor
    from openai import OpenAI

    server = OpenAI(base_url=V1, api_key="none", max_retries=0)
    client = instructor.from_openai(server, mode=instructor.Mode.JSON_SCHEMA)
    said: Any = [{"role": "user", "content": QUESTION}]
    asked: Any = {"model": MODEL, "messages": said, "temperature": 0, "max_tokens": 64, "max_retries": 0}
    whole, reply = client.chat.completions.create_with_completion(response_model=_capital(), **asked)
    growing = list(client.chat.completions.create_partial(response_model=_capital(), **asked))
    return {
        "whole": whole.model_dump(),
        "grown": growing[-1].model_dump(),
        "steps": len(growing),
        "usage": reply.usage.total_tokens,
    }


def instructor_tools() -> Any:
    """An object as the arguments of a function, whole and growing, and by responses."""
    import instructor
    from openai import OpenAI

    server = OpenAI(base_url=V1, api_key="none", max_retries=0)
    client = instructor.from_openai(server, mode=instructor.Mode.TOOLS)
    said: Any = [{"role": "user", "content": QUESTION}]
    asked: Any = {"model": MODEL, "messages": said, "temperature": 0, "max_tokens": 64, "max_retries": 0}
    whole, reply = client.chat.completions.create_with_completion(response_model=_capital(), **asked)
    growing = list(client.chat.completions.create_partial(response_model=_capital(), **asked))
    by_responses = instructor.from_openai(server, mode=instructor.Mode.RESPONSES_TOOLS)
    asked = {"model": MODEL, "input": QUESTION, "temperature": 0, "max_output_tokens": 64, "max_retries": 0}
    return {
        "whole": whole.model_dump(),
        "finish": reply.choices[0].finish_reason,
        "grown": growing[-1].model_dump(),
        "steps": len(growing),
        "responses": by_responses.responses.create(response_model=_capital(), **asked).model_dump(),
    }


def langchain_unknown_model() -> Any:
    """A model that nobody serves."""
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(base_url=V1, api_key="none", model="no-such-model", max_retries=0).invoke(QUESTION)


def llama_index_unknown_model() -> Any:
    """A model that nobody serves."""
    from llama_index.llms.openai_like import OpenAILike

    return OpenAILike(api_base=V1, api_key="none", model="no-such-model", max_retries=0).complete(QUESTION)


def _capital() -> type:
    from pydantic import BaseModel

    class Capital(BaseModel):
        """What is asked for."""

        city: Literal["Paris", "Rome"]
        in_europe: bool

    return Capital


CASES: dict[str, Callable[[], Any]] = {
    case.__name__: case
    for case in (
        langchain_chat,
        langchain_responses,
        langchain_structured,
        langchain_tools,
        langchain_ollama_tools,
        langchain_embeddings,
        langchain_embeddings_of_tokens,
        langchain_ollama,
        llama_index_chat,
        llama_index_embeddings,
        instructor_schema,
        instructor_tools,
        langchain_unknown_model,
        llama_index_unknown_model,
    )
}


def outcome(case: Callable[[], Any]) -> dict[str, Any]:
    """What came of one case."""
    try:
        return {"ok": True, "value": case()}
    except Exception as error:  # noqa: BLE001 -- whatever it is, the test judges it
        told = {name: getattr(error, name, None) for name in ("code", "param", "type")}
        return {
            "ok": False,
            "error": {
                "name": type(error).__name__,
                "message": str(error)[:2000],
                "status": getattr(error, "status_code", None),
                **told,
            },
        }


if __name__ == "__main__":
    json.dump({name: outcome(CASES[name]) for name in sys.argv[3:] or CASES}, sys.stdout)
