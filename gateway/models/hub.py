"""A file's name on the Hugging Face hub comes in, the verified file in the models folder goes out."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urljoin

import httpx
import msgspec

from storage.errors import AskonceError

DEFAULT_ENDPOINT = "https://huggingface.co"
_CONNECT_TIMEOUT_S = 5.0
_SILENCE_TIMEOUT_S = 30.0
_DESCRIBE_TIMEOUT_S = 15.0
_SPARE_BYTES = 64 * 2**20
_RETRIES = 5
_REDIRECTS = 5
_SHA256 = re.compile(r"[0-9a-f]{64}")

Progress = Callable[[int, int], None]
"""Told how many bytes are here, and of how many."""


class HubError(AskonceError):
    """The hub does not give this file."""


class HubUnreachable(HubError):
    """The hub cannot be reached."""


class HubFile(msgspec.Struct, frozen=True):
    """One file of one repository, as in `org/repo:folder/file.gguf`."""

    repo: str
    path: str
    revision: str = "main"

    def __str__(self) -> str:
        return f"{self.repo}:{self.path}"


class ListedFile(msgspec.Struct, frozen=True):
    """A file of a repository, and its length."""

    path: str = msgspec.field(name="rfilename")
    size_bytes: int = msgspec.field(name="size", default=0)


class Listed(msgspec.Struct, frozen=True):
    """What a repository held at one commit."""

    commit: str = msgspec.field(name="sha")
    files: tuple[ListedFile, ...] = msgspec.field(name="siblings", default=())


class _Description(msgspec.Struct, frozen=True):
    commit: str
    etag: str
    size_bytes: int


class Hub:
    """A hub at `endpoint`; files are kept under `models_dir`, by repository, and never asked for again."""

    def __init__(
        self, models_dir: Path, *, endpoint: str | None = None, token: str | None = None, pause_s: float = 0.5
    ) -> None:
        self.endpoint = (endpoint or DEFAULT_ENDPOINT).rstrip("/")
        self._models_dir = models_dir
        self._token = token
        self._pause_s = pause_s

    def kept(self, file: HubFile) -> Path | None:
        """Where `file` is, when an earlier `fetch` brought it here."""
        path = self._target(file)
        return path if path.is_file() else None

    async def fetch(self, file: HubFile, progress: Progress) -> Path:
        """Bring `file` here, going on where a broken download stopped, and check its sha256.

        Raises:
            HubUnreachable: no answer, or none that says anything about this file.
            HubError: no such file, no permission, no room on the disk, or damaged on its way.
        """
        if kept := self.kept(file):
            return kept
        target = self._target(file)
        async with self._client() as client:
            described = await self._describe(client, file)
            # Named by content: a file that changed on the hub is not glued to the start of its former self.
            part = target.with_name(f"{target.name}.{described.etag[:16]}.part")
            try:
                _make_room(part, described.size_bytes)
                await self._download(client, file, described, part, progress)
                await asyncio.to_thread(_verify, part, described, file)
                return part.replace(target)
            except OSError as failed:
                raise HubError(f"{file} cannot be kept in {self._models_dir}: {failed.strerror}.") from failed

    async def listed(self, repo: str) -> Listed:
        """What `repo` holds now.

        Raises:
            HubUnreachable: no answer, or none that a hub would give.
            HubError: there is no such repository, or no permission.
        """
        url = f"{self.endpoint}/api/models/{quote(repo)}?blobs=true"
        async with self._client() as client:
            try:
                response = await client.get(url, follow_redirects=True)
            except httpx.HTTPError as failed:
                message = f"The hub {self.endpoint} cannot be reached ({failed or type(failed).__name__})."
                raise HubUnreachable(message) from failed
        self._refuse(response, HubFile(repo, "config.json"))
        try:
            return msgspec.json.decode(response.content, type=Listed)
        except (msgspec.DecodeError, UnicodeDecodeError) as unreadable:
            raise HubUnreachable(f"{self.endpoint} does not answer as a hub does.") from unreadable

    def _target(self, file: HubFile) -> Path:
        return self._models_dir / file.repo.replace("/", "--") / file.path

    def _url(self, file: HubFile, revision: str) -> str:
        return f"{self.endpoint}/{file.repo}/resolve/{quote(revision)}/{quote(file.path)}"

    @asynccontextmanager
    async def _client(self) -> AsyncGenerator[httpx.AsyncClient]:
        headers = {"User-Agent": "askonce", "Accept-Encoding": "identity"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"  # httpx does not show it to other hosts.
        timeout = httpx.Timeout(_SILENCE_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S)
        async with httpx.AsyncClient(headers=headers, timeout=timeout) as client:
            yield client

    async def _describe(self, client: httpx.AsyncClient, file: HubFile) -> _Description:
        url = self._url(file, file.revision)
        try:
            async with asyncio.timeout(_DESCRIBE_TIMEOUT_S):
                response = await _head(client, url)
        except (httpx.HTTPError, TimeoutError) as failed:
            message = f"The hub {self.endpoint} cannot be reached ({failed or type(failed).__name__})."
            raise HubUnreachable(message) from failed
        self._refuse(response, file)
        headers = response.headers
        etag = headers.get("X-Linked-Etag") or headers.get("ETag") or ""
        size = headers.get("X-Linked-Size") or headers.get("Content-Length") or ""
        commit = headers.get("X-Repo-Commit")
        if not (commit and etag and size.isdecimal()):
            raise HubUnreachable(f"{self.endpoint} does not answer as a hub does.")
        return _Description(commit=commit, etag=etag.removeprefix("W/").strip('"'), size_bytes=int(size))

    def _refuse(self, response: httpx.Response, file: HubFile) -> None:
        """Raise for a status that means there is nothing to download."""
        status, code = response.status_code, response.headers.get("X-Error-Code", "")
        if status < HTTPStatus.BAD_REQUEST:
            return
        if not (code or response.headers.get("X-Repo-Commit")):  # A proxy or a portal, which knows of no file.
            raise HubUnreachable(f"{self.endpoint} answers with status {status}, and not as a hub does.")
        if code == "GatedRepo" or status == HTTPStatus.FORBIDDEN:
            hint = "accept its licence there and set a token (ASKONCE_HF_TOKEN)"
            raise HubError(f"{self.endpoint}/{file.repo} is gated: {hint}.")
        if status == HTTPStatus.NOT_FOUND and code in {"EntryNotFound", ""}:
            raise HubError(f"{file.repo} has no file {file.path} on {self.endpoint}.")
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND}:
            # The hub does not tell a missing repository from a private one.
            hint = "it is private and needs a token (ASKONCE_HF_TOKEN)"
            raise HubError(f"{self.endpoint} has no repository {file.repo}, or {hint}.")
        raise HubUnreachable(f"The hub {self.endpoint} answers with status {status}.")

    async def _download(
        self, client: httpx.AsyncClient, file: HubFile, described: _Description, part: Path, progress: Progress
    ) -> None:
        url, failures = self._url(file, described.commit), 0
        with _opened(part, described.size_bytes) as data:
            while (start_bytes := data.tell()) < described.size_bytes:
                try:
                    await self._append(client, url, file, data, lambda: progress(data.tell(), described.size_bytes))
                except httpx.HTTPError as broken:
                    failures = 0 if data.tell() > start_bytes else failures + 1
                    if failures >= _RETRIES:
                        message = f"The download of {file} broke off ({broken}); it will go on from there next time."
                        raise HubError(message) from broken
                    await asyncio.sleep(self._pause_s * 2**failures)

    async def _append(
        self, client: httpx.AsyncClient, url: str, file: HubFile, data: BinaryIO, advanced: Callable[[], None]
    ) -> None:
        headers = {"Range": f"bytes={data.tell()}-"} if data.tell() else {}
        async with client.stream("GET", url, headers=headers, follow_redirects=True) as response:
            self._refuse(response, file)
            if response.status_code != HTTPStatus.PARTIAL_CONTENT:
                data.seek(0)  # The whole file comes, whatever was asked for.
                data.truncate()
            # As it arrives: larger chunks would be lost when the connection breaks within one.
            async for chunk in response.aiter_bytes():
                data.write(chunk)
                advanced()


async def _head(client: httpx.AsyncClient, url: str) -> httpx.Response:
    """The hub's own answer: a redirect within it is followed, the one to the storage behind it is the answer."""
    for _ in range(_REDIRECTS):
        response = await client.head(url)
        location = response.headers.get("Location", "")
        if not response.is_redirect or not location.startswith("/"):
            return response
        url = urljoin(url, location)
    raise httpx.TooManyRedirects("too many redirects")


def _make_room(part: Path, size_bytes: int) -> None:
    part.parent.mkdir(parents=True, exist_ok=True)
    missing_bytes = size_bytes - (part.stat().st_size if part.exists() else 0)
    free_bytes = shutil.disk_usage(part.parent).free
    if missing_bytes + _SPARE_BYTES > free_bytes:
        needed, free = (f"{number / 2**20:.0f} MiB" for number in (missing_bytes, free_bytes))
        message = f"{part.parent} has no room for the model ({needed} to download, {free} free)."
        raise HubError(message)


def _opened(part: Path, size_bytes: int) -> BinaryIO:
    """The file, ready to be written at its end; one that is too long is begun anew."""
    data = part.open("ab")
    if data.tell() > size_bytes:
        data.truncate(0)
    return data


def _verify(part: Path, described: _Description, file: HubFile) -> None:
    # The etag of a large file is its sha256; small ones have a git hash there, and only their length is checked.
    with part.open("rb") as data:
        sha256 = hashlib.file_digest(data, "sha256").hexdigest()
        right_size = data.tell() == described.size_bytes
    if right_size and (sha256 == described.etag or not _SHA256.fullmatch(described.etag)):
        return
    part.unlink()
    message = f"{file} arrived damaged (sha256 {sha256}, expected {described.etag}) and was deleted: try again."
    raise HubError(message)
