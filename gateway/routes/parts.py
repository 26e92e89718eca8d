"""What handlers work with."""

from collections.abc import Awaitable, Callable

import msgspec

from extractors.book import Book
from gateway.access import Access
from gateway.config import Config
from gateway.conversations import Conversations
from gateway.embedding.embedder import Embedder
from gateway.explaining import Explainer
from gateway.extraction.archive import Archive
from gateway.extraction.extractor import Extractor
from gateway.extraction.jobs import Jobs
from gateway.pipeline import Pipeline
from gateway.prepared import PreparedReplies
from gateway.proof.proving import Proof
from gateway.ready import Shelf
from gateway.routing.router import Router
from gateway.searching.dividing import Divider
from gateway.searching.retriever import Retriever
from gateway.searching.searcher import Searcher
from gateway.searching.stores import Stores
from gateway.telemetry import Telemetry
from storage.hits import Hits
from storage.invalidations import Invalidations
from storage.listing import Listing
from storage.passages import Passages
from storage.tenant_sql.gate import Gate
from storage.tenant_sql.saved import Saved
from storage.tiers import Tiers
from storage.vectors.models import Models

Reload = Callable[[], Awaitable[tuple[str, ...]]]
"""Has the settings read again and used by all workers; gives the names of those that changed. Raises `ConfigError`."""


class Extraction(msgspec.Struct, frozen=True):
    """Who extracts records, where runs and documents are, those that go on by themselves, and the saved recipes."""

    extractor: Extractor
    archive: Archive
    jobs: Jobs
    book: Book


class Searching(msgspec.Struct, frozen=True):
    """Who divides documents into passages, where these are, and who searches them."""

    divider: Divider
    passages: Passages
    searcher: Searcher
    stores: Stores
    retriever: Retriever


class Parts(msgspec.Struct, frozen=True):
    """What a running application is made of. One dependency, because the framework opens a task group for several."""

    pipeline: Pipeline
    embedder: Embedder
    router: Router
    tiers: Tiers
    telemetry: Telemetry
    access: Access
    invalidations: Invalidations
    proof: Proof
    listing: Listing
    explainer: Explainer
    conversations: Conversations
    shelf: Shelf
    prepared: PreparedReplies
    hits: Hits
    extraction: Extraction
    searching: Searching
    sql: Gate
    vectors: Models
    queries: Saved
    use: Callable[[Config], None]
    """Has other settings used, as far as they can be changed. Raises `ConfigError`."""
    reload: Reload
