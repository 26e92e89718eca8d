"""The composition root: settings in, all that answers out. Only here are concrete classes named."""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial

import asyncpg
import msgspec

from extractors.book import Book
from extractors.workers import Workers
from gateway import policy
from gateway.access import Access, GuardedKeys
from gateway.building import BUILD
from gateway.config import LOOPBACK, Config, ConfigError, PolicyConfig
from gateway.conversations import Conversations
from gateway.embedding.embedder import Embedder
from gateway.explaining import Explainer
from gateway.extraction.archive import Archive
from gateway.extraction.extractor import Extractor, Kept
from gateway.extraction.grounding import Grounder
from gateway.extraction.jobs import Jobs
from gateway.extraction.keeping import Endings
from gateway.extraction.views import Views
from gateway.flights.shared import SharedFlights
from gateway.indexing.indexer import Indexer
from gateway.indexing.reading import Reader
from gateway.lag import Lag
from gateway.looking import Looker
from gateway.models.digest import Digests
from gateway.pipeline import Pipeline, Reuse
from gateway.prepared import PreparedReplies
from gateway.proof.proving import Proof
from gateway.ready import Notes, Shelf
from gateway.reuse.comparing import Comparing
from gateway.reuse.finding import Finder
from gateway.reuse.reusing import Reusing
from gateway.routes.local_only import foreign
from gateway.routes.parts import Extraction, Parts, Reload, Searching
from gateway.routing.figures import Figures
from gateway.routing.router import Router
from gateway.searching.dividing import Divider
from gateway.searching.retriever import Retriever
from gateway.searching.searcher import Searcher
from gateway.searching.stores import Stores
from gateway.sweeping import Sweeper
from gateway.telemetry import Telemetry
from storage import gossip, postgres, recipe_views, redis
from storage.changes import EVERYTHING, Changes
from storage.collections import Collections
from storage.embedded.marker import KeysRequired
from storage.extractions import Extractions
from storage.flights import board as flights_in_redis
from storage.flights.record import Timing
from storage.gossip import Gossip
from storage.guard import Guard, GuardedTier
from storage.hits import Hits
from storage.invalidations import Invalidations
from storage.keys import KeyStore
from storage.ledger import Ledger
from storage.listing import Listing
from storage.memory import MemoryTier
from storage.near import Near
from storage.passages import Passages
from storage.prepared import GuardedReplies, RedisReplies
from storage.responses import Responses
from storage.search import Search
from storage.tenant_sql.gate import Gate
from storage.tenant_sql.saved import Saved
from storage.tenant_sql.statements import Limits
from storage.tiers import Tiers
from storage.trials import Trials
from storage.vectors.models import Models
from storage.vectors.near import Neighbours
from storage.vectors.queue import Queue
from storage.verifications import Verifications

_SLACK_S = 24 * 3600
"""How much longer than entries live in Redis the marks of invalidations are kept."""


async def no_parent() -> tuple[str, ...]:
    """Nobody has the settings read again."""
    raise ConfigError("Only 'askonce serve' can read its settings again.")


async def no_standby() -> str:
    """There is no copy of the database."""
    return ""


Standby = Callable[[], Awaitable[str]]
"""Gives the address of a copy of the database that may be hurt; empty where there is none."""


class _Stored(msgspec.Struct, frozen=True):
    """Where things are kept."""

    database: asyncpg.Pool
    invalidations: Invalidations
    memory: MemoryTier
    tiers: Tiers
    replies: GuardedReplies
    ledger: Ledger
    hits: Hits


async def _stored(config: Config, telemetry: Telemetry, stack: contextlib.AsyncExitStack) -> _Stored:
    database = await postgres.connect(config.database_url, config.database_connections)
    invalidations = Invalidations(database, telemetry.fault, config.database_deadline_s)
    memory = MemoryTier(config.memory_max_bytes, config.redis_ttl_s)
    lower = _lower(config, database, telemetry)
    tiers = Tiers(memory, lower, invalidations, telemetry.dropped)
    stack.push_async_callback(tiers.aclose)
    stack.push_async_callback((replies := _replies(config, lower[0], telemetry)).aclose)
    writes = (Guard("postgres", telemetry.fault, sort=f"writes of {of}") for of in ("usage", "hits"))
    ledger = Ledger(database, next(writes), config.database_deadline_s, partial(telemetry.uncounted, "usage"))
    stack.push_async_callback(ledger.aclose)
    hits = Hits(database, next(writes), config.database_deadline_s, partial(telemetry.uncounted, "hits"))
    stack.push_async_callback(hits.aclose)
    await invalidations.begin()
    return _Stored(database, invalidations, memory, tiers, replies, ledger, hits)


@contextlib.asynccontextmanager
async def running(config: Config, reload: Reload = no_parent, standby: Standby = no_standby) -> AsyncGenerator[Parts]:
    """Everything `config` asks for, opened, and closed again: usable without HTTP."""
    policies = list(config.policies)  # one list that all share, for it can be changed
    telemetry = Telemetry()
    async with contextlib.AsyncExitStack() as stack:
        stored = await _stored(config, telemetry, stack)
        database, invalidations, tiers = stored.database, stored.invalidations, stored.tiers
        access = _access(config, database, telemetry)
        stack.push_async_callback(Changes(config.database_url, _heard(access, invalidations)).aclose)
        stack.push_async_callback(_sweeper(config, stored, policies, telemetry).aclose)
        router, others = _routing(config)
        stack.push_async_callback(others.aclose)
        stack.push_async_callback(router.aclose)

        shelf = Shelf(
            config.ready_max_bytes, stored.memory, invalidations, access, Notes(telemetry, stored.ledger, stored.hits)
        )
        stack.callback(shelf.settle)

        def use(config: Config) -> None:
            router.configure(config.backends, config.models)
            policies[:] = config.policies
            shelf.clear()

        use(config)
        telemetry.watch(Figures(router.pools))
        telemetry.settle = shelf.settle
        stack.callback(Lag(telemetry.late).close)
        flights = _flights(config, telemetry, stack)
        kept = _verifications(config, database, telemetry)
        stack.push_async_callback(kept.aclose)
        stack.push_async_callback((given := _responses(config, database, invalidations, telemetry)).aclose)
        answering = _Answering(tiers, router, flights, policies, stored.ledger, stored.hits)
        pipeline, embedder = _answered(config, database, answering, telemetry, stack)
        yield Parts(
            pipeline=pipeline,
            embedder=embedder,
            router=router,
            tiers=tiers,
            telemetry=telemetry,
            access=access,
            invalidations=invalidations,
            proof=Proof(tiers, router, kept, policies),
            listing=Listing(database, lambda scope, model: policy.of(policies, scope, model).ttl_s),
            use=use,
            reload=reload,
            explainer=Explainer(tiers, router, Near(database), policies),
            conversations=Conversations(given, policies),
            shelf=shelf,
            prepared=PreparedReplies(stored.replies, Looker(tiers, router, policies), shelf, access, _admits(config)),
            hits=stored.hits,
            sql=_gate(config, database, standby, stack),
            vectors=Models(database),
            queries=Saved(config.queries_folder()),
            extraction=_extraction(config, database, pipeline, router, telemetry, stack),
            searching=_searching(config, database, embedder, telemetry, stack),
        )


class _Answering(msgspec.Struct, frozen=True):
    """What everything is made of that names, looks, asks and keeps."""

    tiers: Tiers
    router: Router
    flights: SharedFlights
    policies: list[PolicyConfig]
    ledger: Ledger
    hits: Hits

    def embedder(self) -> Embedder:
        """Who embeds."""
        return Embedder(self.tiers, self.router, self.flights, self.policies, self.ledger, self.hits)

    def pipeline(self, reuse: Reuse | None = None) -> Pipeline:
        """Who answers; without `reuse`, with what is kept of equal questions only."""
        return Pipeline(self.tiers, self.router, self.flights, self.policies, self.ledger, self.hits, reuse)


def _access(config: Config, database: asyncpg.Pool, telemetry: Telemetry) -> Access:
    return Access(
        GuardedKeys(KeyStore(database), config.database_deadline_s, telemetry.fault),
        local=config.host in LOOPBACK,
        admin_key=config.admin_key,
        marker=KeysRequired(config.data_dir) if config.data_dir else None,
    )


def _sweeper(config: Config, stored: _Stored, policies: list[PolicyConfig], telemetry: Telemetry) -> Sweeper:
    return Sweeper(
        stored.database,
        stored.invalidations,
        policies,
        marks_needed_s=config.redis_ttl_s + _SLACK_S,
        responses_ttl_s=config.responses_ttl_s,
        record_max_bytes=config.record_max_bytes,
        telemetry=telemetry,
        vectors=Models(stored.database),
    )


def _heard(access: Access, invalidations: Invalidations) -> Callable[[str], Awaitable[None]]:
    async def heard(said: str) -> None:
        if said in {"keys", EVERYTHING}:
            await access.changed(told=said != EVERYTHING)
        if said in {"invalidations", EVERYTHING}:
            await invalidations.refresh()

    return heard


def _lower(config: Config, database: asyncpg.Pool, telemetry: Telemetry) -> tuple[GuardedTier, GuardedTier]:
    """Redis and Postgres."""
    return (
        GuardedTier(redis.connect(config.redis_url, config.redis_ttl_s), config.redis_deadline_s, telemetry.fault),
        GuardedTier(postgres.PostgresTier(database), config.database_deadline_s, telemetry.fault),
    )


def _replies(config: Config, entries: GuardedTier, telemetry: Telemetry) -> GuardedReplies:
    kept = RedisReplies(redis.client(config.redis_url), config.redis_ttl_s)
    return GuardedReplies(kept, entries, config.redis_deadline_s, config.ready_max_bytes, telemetry.fault)


def _admits(config: Config) -> Callable[[bytes, bytes], bool]:
    """Whether what has this host and origin is answered at all."""
    is_local = config.host in LOOPBACK
    return lambda host, origin: not (is_local and foreign(host, origin))


def _routing(config: Config) -> tuple[Router, Gossip]:
    """The router, and what it tells those of other gateways and workers, and hears of them."""
    files = Digests(config.folder() / "models")
    router = Router(
        lambda backend: BUILD[backend.kind](backend, files),
        workers=config.workers,
        say=lambda model, message: others.say(model, message),
    )
    others = gossip.connect(config.redis_url, router.heard)
    return router, others


def _guards(telemetry: Telemetry, of: str) -> tuple[Guard, Guard]:
    """Of what is read and of what is written: when the one fails, the other may go on."""
    reads, writes = (Guard("postgres", telemetry.fault, sort=f"{sort} {of}") for sort in ("reads", "writes"))
    return reads, writes


def _verifications(config: Config, database: asyncpg.Pool, telemetry: Telemetry) -> Verifications:
    return Verifications(database, *_guards(telemetry, "of verifications"), config.database_deadline_s)


def _responses(config: Config, database: asyncpg.Pool, marks: Invalidations, telemetry: Telemetry) -> Responses:
    return Responses(database, marks, _guards(telemetry, "of responses"), config.database_deadline_s, telemetry.dropped)


def _flights(config: Config, telemetry: Telemetry, stack: contextlib.AsyncExitStack) -> SharedFlights:
    board = flights_in_redis.connect(config.redis_url, telemetry.fault, Timing(deadline_s=config.redis_deadline_s))
    stack.push_async_callback(board.aclose)
    flights = SharedFlights(board)
    stack.push_async_callback(flights.aclose)
    return flights


def _answered(
    config: Config,
    database: asyncpg.Pool,
    answering: _Answering,
    telemetry: Telemetry,
    stack: contextlib.AsyncExitStack,
) -> tuple[Pipeline, Embedder]:
    """Who answers and who embeds. With a model for that, what is kept is embedded, and found by its meaning."""
    embedder = answering.embedder()
    if not (name := config.embedding_model):
        return answering.pipeline(), embedder
    indexer = Indexer(Queue(database), Models(database), Reader(embedder, name), telemetry)
    stack.push_async_callback(indexer.aclose)
    reads, writes = _guards(telemetry, "by meaning")
    near = Neighbours(database, reads, config.database_deadline_s)
    stack.callback(near.close)
    trials = Trials(database, writes, config.database_deadline_s)
    stack.callback(trials.close)
    finder = Finder(embedder, name, near, answering.tiers, answering.pipeline())
    comparing = Comparing(finder, Reader(embedder, name), trials)
    stack.push_async_callback(comparing.aclose)
    return answering.pipeline(Reusing(finder, comparing, telemetry)), embedder


def _gate(config: Config, database: asyncpg.Pool, standby: Standby, stack: contextlib.AsyncExitStack) -> Gate:
    async def where() -> str:
        return config.sql_database_url or await standby() or config.database_url

    limits = Limits(rows=config.sql_max_rows, bytes=config.sql_max_bytes, seconds=config.sql_timeout_s)
    at_once = config.sql_connections
    gate = Gate(database, where, limits, at_once=at_once, each=max(1, at_once // 2))
    stack.push_async_callback(gate.aclose)
    return gate


def _extraction(
    config: Config,
    database: asyncpg.Pool,
    pipeline: Pipeline,
    router: Router,
    telemetry: Telemetry,
    stack: contextlib.AsyncExitStack,
) -> Extraction:
    """Who extracts, at once or in the background, and where recipes and runs are."""
    store = Extractions(database, _guards(telemetry, "of extractions"), config.database_deadline_s)
    stack.push_async_callback(store.aclose)
    book, workers = Book(config.recipes_folder()), Workers(config.extraction_processes)
    views = Views(partial(recipe_views.ensure, database))
    kept = Kept(store, Archive(store), endings := Endings(), views, telemetry)
    stack.push_async_callback(endings.aclose)
    stack.push_async_callback((jobs := Jobs()).aclose)
    extractor = Extractor(pipeline, router, book, workers, Grounder(workers), kept)
    return Extraction(extractor, kept.archive, jobs, book)


def _searching(
    config: Config,
    database: asyncpg.Pool,
    embedder: Embedder,
    telemetry: Telemetry,
    stack: contextlib.AsyncExitStack,
) -> Searching:
    """Who divides documents, and searches them."""
    passages = Passages(database, _guards(telemetry, "of passages"), config.database_deadline_s)
    stack.push_async_callback(passages.aclose)
    stack.push_async_callback((divider := Divider(passages, Workers().passages)).aclose)
    guard = Guard("postgres", telemetry.fault, sort="searches")
    store = Search(database, guard, config.database_deadline_s)
    stack.push_async_callback(store.aclose)
    stack.push_async_callback((kept := Collections(database, guard, config.database_deadline_s)).aclose)
    searcher = Searcher(store, embedder)
    return Searching(divider, passages, searcher, Stores(kept, searcher), Retriever(searcher))
