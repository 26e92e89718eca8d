"""A chat and what is to be looked for -> the chat with the passages that were found, and where these stand."""

from typing import Any

from gateway.caller import Caller
from gateway.canonical import Request
from gateway.searching import told
from gateway.searching.searcher import Hit, Searcher
from gateway.wire import retrieval
from gateway.wire.retrieval import Source
from gateway.wire.search import Asked

_CITED = ("key", "document_id", "title", "chunk", "start", "end", "page", "score")


class Retriever:
    """Finds what a model shall read."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher

    async def given(self, question: Request, caller: Caller) -> tuple[Request, list[dict[str, Any]]]:
        """The question as the model is asked it, and its citations, in the order of their numbers. A question that
        wants nothing retrieved stays as it is. Raises what `Searcher.search` does.
        """
        if not isinstance(question.retrieval, Asked):
            return question, []
        found = await self._searcher.search(question.retrieval, caller)
        shown = [told.result(hit) for hit in found.hits]
        sources = [_source(hit, one) for hit, one in zip(found.hits, shown, strict=True)]
        citations = [{name: one[name] for name in _CITED} for one in shown]
        return retrieval.given(question, sources), citations


def _source(hit: Hit, shown: dict[str, Any]) -> Source:
    return Source(key=hit.found.fields["key"], title=shown["title"], page=shown["page"], text=shown["text"])
