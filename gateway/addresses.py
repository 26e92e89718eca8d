"""Addresses of servers as they are written in settings: checked, put into one form, and shown without their secrets."""

from pathlib import Path
from urllib.parse import urlsplit


def server_url(kind: str, url: str) -> str:
    """`url` without the `/v1` that other programs want at its end. Raises `ValueError` for what is no address."""
    example = "http://127.0.0.1:8000"
    if not url:
        message = f"a backend of kind '{kind}' needs `url`, such as {example}"
        raise ValueError(message)
    if url.startswith("unix:/") and kind != "ollama":  # its client knows of no sockets
        return url
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or "?" in url or "#" in url:
        message = f"`url` must be that of a server, such as {example}"  # not shown: it may hold a password
        raise ValueError(message)
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def place(url: str) -> str:
    """Where `url` leads, for people: `@host:port`, or the name of a socket."""
    if not url or url.startswith("unix:"):
        return url and f"@{Path(url).stem}"
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"@{host}:{parts.port}" if parts.port else f"@{host}"


def check_scheme(name: str, url: str, schemes: tuple[str, ...]) -> None:
    """Raise `ValueError` unless `url` is empty or begins with one of `schemes`. It may hold a password: not shown."""
    if url and not url.startswith(schemes):
        message = f"`{name}` must begin with {' or '.join(schemes)}"
        raise ValueError(message)
