"""The bytes of a file in, the text that is in it out, and where its pages begin.

Text stays as it is, HTML becomes Markdown, and of a PDF the text of each page is taken. Only a process of its own reads
HTML and PDF: somebody else made them, and they may take long, or much memory.
"""

import resource
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import Final

import msgspec

PLAIN: Final = frozenset({"text/plain", "text/markdown"})
"""What needs nothing but to be decoded."""
_MEMORY_MAX_BYTES: Final = 2**30
"""What reading one file may take, beside what the process has."""
_PAGES_MAX: Final = 10_000
_PAGE_END: Final = "\f"
_MARKS: Final = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_SILENT: Final = ("script", "style", "noscript", "template", "svg", "iframe", "object", "head")
"""Elements of a page that nobody reads."""


class Text(msgspec.Struct, frozen=True):
    """What a file says."""

    text: str
    pages: tuple[int, ...] = ()
    """Of a PDF: where each page begins, in code points."""
    title: str = ""


class FileError(ValueError):
    """There is no text to be had from a file; the message is for whoever sent it."""


class ReaderMissing(FileError):
    """The libraries that read files are not installed: install the extra 'documents', as in
    `pip install 'askonce[documents]'`."""

    def __init__(self) -> None:
        super().__init__(" ".join((type(self).__doc__ or "").split()))


def read(data: bytes, media_type: str, charset: str = "") -> Text:
    """What a file of one of `TYPES` says. Raises `FileError`."""
    return TYPES[media_type](data, charset)


def decoded(data: bytes, charset: str = "") -> Text:
    """Text as it is, without a mark of its encoding. Raises `FileError`."""
    mark = next((name for begin, name in _MARKS.items() if data.startswith(begin)), "")
    try:
        return Text(data.decode(charset or mark or "utf-8").removeprefix("\ufeff"))
    except LookupError as error:
        raise FileError(f"No encoding is called '{charset[:40]}'; UTF-8 always works.") from error
    except UnicodeDecodeError as error:
        said = f"The text is not {charset or mark or 'UTF-8'} (byte {error.start})"
        raise FileError(f"{said}; send UTF-8, or say its charset in the content type.") from error


def _html(data: bytes, charset: str) -> Text:
    try:
        from bs4 import BeautifulSoup  # noqa: PLC0415 -- only a process that reads files needs them
        from markdownify import MarkdownConverter  # noqa: PLC0415
    except ImportError as error:
        raise ReaderMissing from error
    with _bounded("page"):
        page = BeautifulSoup(data, "html.parser", from_encoding=charset or None)
        title = " ".join(page.title.get_text().split()) if page.title else ""
        for element in page.find_all(_SILENT):
            element.decompose()
        text = MarkdownConverter(heading_style="ATX", bullets="-").convert_soup(page)
    return Text(text.strip(), title=title)


def _pdf(data: bytes, charset: str) -> Text:
    del charset
    try:
        import pypdf  # noqa: PLC0415 -- see above
    except ImportError as error:
        raise ReaderMissing from error
    with _bounded("PDF"):
        reader = pypdf.PdfReader(BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise FileError("The PDF is encrypted; send one that opens without a password.")
        if len(reader.pages) > _PAGES_MAX:
            raise FileError(f"The PDF has more than {_PAGES_MAX:,} pages; send it in parts.")
        said = [page.extract_text() for page in reader.pages]
        title = str((reader.metadata and reader.metadata.title) or "")
    if not any(map(str.strip, said)):
        raise FileError("The PDF has pictures of text, or none at all: it takes OCR first.")
    return _paged(said, title)


def _paged(said: list[str], title: str) -> Text:
    pages: list[int] = []
    at = 0
    for page in said:
        pages.append(at)
        at += len(page) + len(_PAGE_END)
    return Text(_PAGE_END.join(said), tuple(pages), title)


@contextmanager
def _bounded(kind: str) -> Generator[None]:
    """Whatever a damaged or hostile file makes its reader do becomes one sentence."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    with open("/proc/self/statm", "rb") as said:  # noqa: PTH123 -- a file of the kernel
        has = int(said.read().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (has + _MEMORY_MAX_BYTES, hard))
    try:
        yield
    except FileError:
        raise
    except MemoryError as error:
        raise FileError(f"The {kind} takes too much memory to be read; send it in parts.") from error
    except RecursionError as error:
        raise FileError(f"The {kind} is nested too deeply to be read.") from error
    except Exception as error:
        said_why = " ".join(str(error).split())[:200]
        raise FileError(f"The {kind} cannot be read ({said_why or type(error).__name__}).") from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


TYPES: Final[Mapping[str, Callable[[bytes, str], Text]]] = {
    **dict.fromkeys(sorted(PLAIN), decoded),
    "text/html": _html,
    "application/xhtml+xml": _html,
    "application/pdf": _pdf,
}
"""Media types, and what reads them."""
