"""Vector stores and files, as OpenAI's API has them: collections, and documents."""

import uuid
from collections.abc import Mapping
from typing import Any, Final

from gateway.caller import Caller
from gateway.errors import InvalidRequest, NoAnswer
from gateway.extraction.archive import looked_up, missing
from gateway.searching import files
from gateway.searching.searcher import Hit, Searcher
from gateway.wire.vector_stores import Change, Search, Store
from storage.collections import Collection, Collections, Page

_STORE: Final = "vs_"
_BATCH: Final = "vsfb_"


class Stores:
    """What is in the database. Whoever asks for another tenant's is told that there is no such thing.

    Every call raises `NoAnswer` for what is not there, `InvalidRequest` for what cannot be, and `StorageUnavailable`.
    """

    def __init__(self, kept: Collections, searcher: Searcher) -> None:
        self._kept = kept
        self._searcher = searcher

    async def create(self, wanted: Store, caller: Caller) -> dict[str, Any]:
        """A new store, with its files."""
        await self._expect_files(wanted.file_ids, caller)
        name = _STORE + uuid.uuid4().hex
        said = (wanted.name, wanted.description, wanted.metadata, wanted.expires_after_s)
        await looked_up(self._kept.put(name, caller.tenant, *said))
        if wanted.file_ids:
            await looked_up(self._kept.add(name, caller.tenant, {one: {} for one in wanted.file_ids}))
        return await self.get(name, caller)

    async def get(self, name: str, caller: Caller) -> dict[str, Any]:
        """One of them."""
        return _store(await self._found(name, caller))

    async def listed(self, page: Page, caller: Caller) -> dict[str, Any]:
        """Those of the tenant."""
        found = await looked_up(self._kept.listed(caller.tenant, files.more(page)))
        return files.page_of([_store(one) for one in found], page)

    async def update(self, name: str, wanted: Change, caller: Caller) -> dict[str, Any]:
        """One of them, changed."""
        said = (wanted.name, wanted.metadata, wanted.expires)
        if not await looked_up(self._kept.update(name, caller.tenant, *said)):
            raise NoAnswer(missing("vector store", name), param="vector_store_id")
        return await self.get(name, caller)

    async def delete(self, name: str, caller: Caller) -> dict[str, Any]:
        """Forget one; its files stay."""
        if not await looked_up(self._kept.delete(name, caller.tenant)):
            raise NoAnswer(missing("vector store", name), param="vector_store_id")
        return {"id": name, "object": "vector_store.deleted", "deleted": True}

    async def search(self, name: str, wanted: Search, caller: Caller) -> dict[str, Any]:
        """What is found in the files of one."""
        await self._found(name, caller)
        found = await self._searcher.search(wanted.asked, caller)
        results = [_result(hit, len(found.searched)) for hit in found.hits]
        return {
            "object": "vector_store.search_results.page",
            "search_query": list(wanted.said),
            "data": [one for one in results if one["score"] >= wanted.threshold],
            "has_more": False,
            "next_page": None,
        }

    async def add(self, name: str, members: Mapping[str, Mapping[str, Any]], caller: Caller) -> dict[str, Any]:
        """Have a file be in one."""
        await self._added(name, members, caller)
        return await self.member(name, next(iter(members)), caller)

    async def member(self, name: str, file_id: str, caller: Caller) -> dict[str, Any]:
        """A file in one."""
        found = await looked_up(self._kept.member(name, caller.tenant, file_id))
        if found is None:
            raise NoAnswer(missing("file of this vector store", file_id), param="file_id")
        return files.member(name, found)

    async def members(self, name: str, page: Page, status: str | None, caller: Caller) -> dict[str, Any]:
        """Files in one, of a status."""
        await self._found(name, caller)
        if status in ("failed", "cancelled"):
            return files.page_of([], page)
        ready = None if status is None else status == "completed"
        found = await looked_up(self._kept.members(name, caller.tenant, files.more(page), ready=ready))
        return files.page_of([files.member(name, one) for one in found], page)

    async def describe(self, name: str, file_id: str, said: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """Say something else of a file in one."""
        await looked_up(self._kept.describe(name, caller.tenant, file_id, said))
        return await self.member(name, file_id, caller)

    async def remove(self, name: str, file_id: str, caller: Caller) -> dict[str, Any]:
        """Take a file out of one; it stays a file."""
        await self.member(name, file_id, caller)
        await looked_up(self._kept.remove(name, caller.tenant, file_id))
        return {"id": file_id, "object": "vector_store.file.deleted", "deleted": True}

    async def begin_batch(self, name: str, members: Mapping[str, Mapping[str, Any]], caller: Caller) -> dict[str, Any]:
        """Have files be in one, together."""
        if not members:
            raise InvalidRequest("There are no files to add.", param="file_ids", code="invalid_value")
        batch = _BATCH + uuid.uuid4().hex
        await self._added(name, members, caller, batch)
        return await self.batch(name, batch, caller)

    async def batch(self, name: str, batch: str, caller: Caller) -> dict[str, Any]:
        """How far files are that were added together."""
        found = await looked_up(self._kept.batch(name, caller.tenant, batch))
        if found is None:
            raise NoAnswer(missing("file batch", batch), param="batch_id")
        return {
            "id": batch,
            "object": "vector_store.files_batch",
            "created_at": int(found.added_at),
            "vector_store_id": name,
            "status": "in_progress" if found.waiting else "completed",
            "file_counts": _counts(found.documents, found.waiting),
        }

    async def batch_members(self, name: str, batch: str, page: Page, caller: Caller) -> dict[str, Any]:
        """Files that were added together."""
        await self.batch(name, batch, caller)
        found = await looked_up(self._kept.members(name, caller.tenant, files.more(page), batch=batch))
        return files.page_of([files.member(name, one) for one in found], page)

    async def files(self, page: Page, caller: Caller) -> dict[str, Any]:
        """The tenant's files."""
        found = await looked_up(self._kept.files(caller.tenant, files.more(page)))
        return files.page_of([files.file(one) for one in found], page)

    async def file(self, name: str, caller: Caller) -> dict[str, Any]:
        """One of them."""
        found = await looked_up(self._kept.files(caller.tenant, Page(1), name))
        if not found:
            raise NoAnswer(missing("file", name), param="file_id")
        return files.file(found[0])

    async def _found(self, name: str, caller: Caller) -> Collection:
        found = await looked_up(self._kept.get(name, caller.tenant))
        if found is None:
            raise NoAnswer(missing("vector store", name), param="vector_store_id")
        return found

    async def _expect_files(self, names: tuple[str, ...], caller: Caller) -> None:
        if absent := await looked_up(self._kept.absent(caller.tenant, names)):
            raise NoAnswer(missing("file", absent[0]), param="file_id")

    async def _added(
        self, name: str, members: Mapping[str, Mapping[str, Any]], caller: Caller, batch: str | None = None
    ) -> None:
        await self._found(name, caller)
        await self._expect_files(tuple(members), caller)
        await looked_up(self._kept.add(name, caller.tenant, members, batch))


def _store(found: Collection) -> dict[str, Any]:
    days = None if found.expires_after_s is None else found.expires_after_s // 86_400
    status = "expired" if found.is_expired else "in_progress" if found.waiting else "completed"
    return {
        "id": found.id,
        "object": "vector_store",
        "created_at": int(found.created_at),
        "name": found.name,
        "description": found.description,
        "usage_bytes": found.bytes,
        "file_counts": _counts(found.documents, found.waiting),
        "status": status,
        "expires_after": days and {"anchor": "last_active_at", "days": days},
        "expires_at": found.expires_after_s and int(found.used_at) + found.expires_after_s,
        "last_active_at": int(found.used_at),
        "metadata": found.metadata,
    }


def _counts(documents: int, waiting: int) -> dict[str, int]:
    return {
        "in_progress": waiting,
        "completed": documents - waiting,
        "failed": 0,
        "cancelled": 0,
        "total": documents,
    }


def _result(hit: Hit, rankings: int) -> dict[str, Any]:
    row = hit.found.fields
    return {
        "file_id": row["document_id"],
        "filename": row["title"] or row["document_id"],
        "score": hit.fused.share(rankings),
        "attributes": files.attributes(row["attributes"]),
        "content": [{"type": "text", "text": row["text"]}],
    }
