"""The bytes of a file in, the text that is in it out, and where its pages begin.

Text stays as it is, HTML becomes Markdown, and of a PDF the text of each page is taken. Only a process of its own reads
HTML and PDF: somebody else made them, and they may take long, or much memory.
"""

import codecs
import re
import resource
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from io import BytesIO, TextIOWrapper
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

PLAIN: Final = frozenset({"text/plain", "text/markdown"})
"""What needs nothing but to be decoded."""
_MEMORY_MAX_BYTES: Final = 2**30
"""What reading one file may take, beside what the process has."""
_PAGES_MAX: Final = 10_000
_PAGE_END: Final = "\f"
_MARKS: Final = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_SILENT: Final = ("script", "style", "noscript", "template", "svg", "iframe", "object", "head")
"""Elements of a page that nobody reads."""
_NOT_SHOWN: Final = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_BREAKS: Final = {0xAD: None, 0x200B: None}
"""Where a page lets a word be parted: nobody sees these, and no search finds a word that has one."""
_HALF: Final = re.compile("[\ud800-\udfff]")
_NO_CHARSETS: Final = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7"})
"""What Python calls an encoding, but no text is written in."""


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
    found = TYPES[media_type](data, charset)
    return Text(_whole(found.text), found.pages, _whole(found.title))


def decoded(data: bytes, charset: str = "") -> Text:
    """Text as it is, without a mark of its encoding. Raises `FileError`."""
    _check(charset)
    mark = next((name for begin, name in _MARKS.items() if data.startswith(begin)), "")
    try:
        return Text(data.decode(charset or mark or "utf-8").removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        said = f"The text is not {charset or mark or 'UTF-8'} (byte {error.start})"
        raise FileError(f"{said}; send UTF-8, or say its charset in the content type.") from error
    except UnicodeError as error:
        raise FileError(f"The text is not {charset or mark}; send UTF-8.") from error


def _check(charset: str) -> None:
    """Raises `FileError` for what no text is written in."""
    try:
        known = not charset or codecs.lookup(charset).name not in _NO_CHARSETS
        TextIOWrapper(BytesIO(), charset or "utf-8")  # it takes what decodes to text alone
    except (LookupError, ValueError):
        known = False
    if not known:
        raise FileError(f"No encoding is called '{charset[:40]}'; UTF-8 always works.")


def _whole(text: str) -> str:
    """The same without halves of surrogate pairs, which nothing can be done with."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _HALF.search(text) else text


def _html(data: bytes, charset: str) -> Text:
    try:
        from bs4 import BeautifulSoup, UnicodeDammit  # noqa: PLC0415 -- only a process that reads files needs them
        from markdownify import MarkdownConverter  # noqa: PLC0415
    except ImportError as error:
        raise ReaderMissing from error
    _check(UnicodeDammit.CHARSET_ALIASES.get(charset, charset))
    with _bounded("page"):
        page = BeautifulSoup(data, "html.parser", from_encoding=charset or None)
        title = " ".join(page.title.get_text().split()) if page.title else ""
        _show(page)
        text = MarkdownConverter(
            heading_style="ATX",
            bullets="-",
            escape_underscores=False,  # words stay what they are: they are searched for, and marked
            escape_asterisks=False,
            escape_misc=False,
        ).convert_soup(page)
    return Text(text.translate(_BREAKS).strip(), title=title.translate(_BREAKS))


def _show(page: "BeautifulSoup") -> None:
    """Take out what nobody who looks at the page would read."""
    from bs4.element import Comment, Declaration, Doctype, ProcessingInstruction  # noqa: PLC0415 -- see above

    for said in page.find_all(string=True):
        if isinstance(said, Comment | Declaration | Doctype | ProcessingInstruction):
            said.extract()
    for element in page.find_all(_hidden):
        if not element.decomposed:
            element.decompose()


def _hidden(element: "Tag") -> bool:
    said = element.attrs
    if element.name in _SILENT or "hidden" in said or str(said.get("aria-hidden", "")).lower() == "true":
        return True
    return _NOT_SHOWN.search(str(said.get("style", ""))) is not None


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
        said = [_whole(page.extract_text()) for page in reader.pages]  # before it is known where each begins
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
