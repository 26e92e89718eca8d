"""Files become documents: their text, where its pages begin, and a clear word where there is no text to be had."""

import io
import json
import zlib
from typing import Any

import httpx
import pypdf
import pytest

from tests.acceptance.extracting import RECIPE, Asked, Make, words
from tests.acceptance.in_thread import MODEL

PAGES = ("Started Zanprol 10 mg.", "Glyprol 20 mg was stopped.")
PAGE = """<!doctype html><html><head><title> Discharge
 letter </title><style>p { color: red }</style></head><body><script>alert("Fooprol 1 mg")</script>
<h1>Medicines</h1><p>Started <b>Zanprol</b> 10&nbsp;mg.</p><table><tr><th>Name</th><th>Dose</th></tr>
<tr><td>Glyprol</td><td>20 mg</td></tr></table></body></html>"""


@pytest.fixture
def ask(gateway: Make) -> Asked:
    """A gateway of this test's own."""
    return Asked(gateway())


def pdf(*pages: str, compressed: bool = True, more: bytes = b"", said: bytes = b"") -> bytes:
    """A PDF with a line of text on each page; `more` is put in front of the first page's, and its font calls `A` what
    is `said`, as UTF-16 in hexadecimal digits.
    """
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    kids: list[int] = []
    for number, text in enumerate(pages):
        line = (more if not number else b"") + b"BT /F1 12 Tf 72 720 Td (%b) Tj ET" % text.encode("latin-1")
        packed = zlib.compress(line) if compressed else line
        filtered = b"/Filter/FlateDecode" if compressed else b""
        objects.append(b"<<%b/Length %d>>stream\n%b\nendstream" % (filtered, len(packed), packed))
        page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>/Contents %d 0 R>>"
        objects.append(page % len(objects))
        kids.append(len(objects))
    if said:
        named = b"begincmap 1 beginbfchar <41> <%b> endbfchar endcmap" % said
        objects.append(b"<</Length %d>>stream\n%b\nendstream" % (len(named), named))
        objects[2] = objects[2][:-2] + b"/ToUnicode %d 0 R>>" % len(objects)
    objects[1] = b"<</Type/Pages/Count %d/Kids[%b]>>" % (len(kids), b" ".join(b"%d 0 R" % kid for kid in kids))
    made, places = b"%PDF-1.7\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(made))
        made += b"%d 0 obj\n%b\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(made))
    return made + b"xref\n0 %d\n0000000000 65535 f \n%b%b" % (len(objects) + 1, table, end)


def locked(data: bytes) -> bytes:
    """The same, with a password."""
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(data))
    writer.encrypt("secret", algorithm="RC4-128")
    made = io.BytesIO()
    writer.write(made)
    return made.getvalue()


def kept(ask: Asked, content: bytes, content_type: str) -> httpx.Response:
    """What is said of a file that is sent as it is."""
    url = f"{ask.gateway.url}/v1/documents"
    return httpx.post(url, content=content, headers={"content-type": content_type}, timeout=60)


def found(ask: Asked, said: Any) -> Any:
    """The document, as it is found again."""
    return httpx.get(f"{ask.gateway.url}/v1/documents/{said['id']}").json()


def test_a_pdf_has_pages_and_is_extracted_from(ask: Asked) -> None:
    """Records stand in its text, and so on its pages."""
    said = kept(ask, pdf(*PAGES), "application/pdf").json()
    document = found(ask, said)
    assert document["text"] == "\f".join(PAGES)
    assert (document["media_type"], document["pages"]) == ("application/pdf", [0, len(PAGES[0]) + 1])
    run = httpx.post(ask.url, json={"model": MODEL, "recipe": RECIPE, "document_id": said["id"]}, timeout=60).json()
    assert [(name, document["text"][at : at + len(name)]) for name, _, at in words(run)] == [
        ("Zanprol", "Zanprol"),
        ("Glyprol", "Glyprol"),
    ]


def test_a_page_is_markdown_without_what_nobody_reads(ask: Asked) -> None:
    """Headings and tables stay; scripts, styles and tags do not."""
    document = found(ask, kept(ask, PAGE.encode(), "text/html; charset=utf-8").json())
    assert document["title"] == "Discharge letter"
    assert document["text"].startswith("# Medicines\n\nStarted **Zanprol** 10\xa0mg.")
    assert "| Glyprol | 20 mg |" in document["text"]
    assert "alert" not in document["text"]
    assert "color" not in document["text"]


def test_names_and_hidden_parts_of_a_page(ask: Asked) -> None:
    """Words are what the reader of the page sees: no escapes, no hyphens that are not shown, nothing hidden."""
    page = """<?php echo 1 ?><!doctype html><!ELEMENT a><p>Metformin_XR 5*3 [a] #1</p><p>Zan\u00adprol\u200b 10 mg</p>
<p hidden>Fooprol <b hidden>1</b></p><i aria-hidden="true">Barprol</i><div style="color:red; DISPLAY : none">Baz</div>
<!-- Quxprol --><?xml-stylesheet href="a"?>"""
    document = found(ask, kept(ask, page.encode(), "text/html; charset=utf-8").json())
    assert document["text"] == "Metformin_XR 5*3 [a] #1\n\nZanprol 10 mg"


def test_half_a_character_of_a_pdf_is_one_that_is_not_known(ask: Asked) -> None:
    """Halves that belong together are one, and pages begin where they are said to."""
    for said, text in ((b"D83D", "\ufffd"), (b"DE00D83D", "\ufffd\ufffd"), (b"D83DDE00", "\U0001f600")):
        document = found(ask, kept(ask, pdf("A 1", "2", said=said), "application/pdf").json())
        assert (document["text"], document["pages"]) == (f"{text} 1\f2", [0, len(text) + 3])


def test_a_page_may_call_its_charset_what_browsers_know(ask: Asked) -> None:
    """Not all of their names are Python's."""
    page = "<p>薬</p>".encode("shift-jis")
    assert found(ask, kept(ask, page, "text/html; charset=x-sjis").json())["text"] == "薬"


@pytest.mark.parametrize("plain", ["application/json", "text/markdown"])
def test_the_same_text_does_not_lose_its_pages(ask: Asked, plain: str) -> None:
    """Nor does a text that was there first keep a PDF of it from having them."""
    text = "\f".join(PAGES)
    body = json.dumps({"text": text}) if plain == "application/json" else text
    first = kept(ask, body.encode(), plain).json()
    assert first["pages"] == []
    for content, content_type in ((pdf(*PAGES), "application/pdf"), (body.encode(), plain)):
        said = kept(ask, content, content_type).json()
        assert said["id"] == first["id"]
        assert (said["media_type"], said["pages"]) == ("application/pdf", [0, len(PAGES[0]) + 1])


@pytest.mark.parametrize(
    ("content", "content_type", "text"),
    [
        (b"\xef\xbb\xbfa\r\n\r\nb\n", "text/plain", "a\r\n\r\nb\n"),
        ("é\n".encode("latin-1"), "text/plain; charset=latin-1", "é\n"),
        ("# A\n阿司匹林 👩‍⚕️".encode("utf-16"), "text/markdown", "# A\n阿司匹林 👩‍⚕️"),
    ],
)
def test_text_stays_as_it_is(ask: Asked, content: bytes, content_type: str, text: str) -> None:
    """But for the mark of its encoding."""
    assert found(ask, kept(ask, content, content_type).json())["text"] == text


def test_a_form_has_a_file_and_what_is_said_of_it(ask: Asked) -> None:
    """As browsers, curl -F and OpenAI's clients send it; the end of its name says what it is."""
    url = f"{ask.gateway.url}/v1/documents"
    sent = {"file": ("notes.md", b"# Zanprol", "application/octet-stream")}
    said = httpx.post(url, files=sent, data={"metadata": '{"ward": 3}'}).json()
    assert (said["title"], said["media_type"], said["metadata"]) == ("notes.md", "text/markdown", {"ward": 3})
    [listed] = httpx.get(url).json()["data"]
    assert listed == said
    refused = httpx.post(url, data={"metadata": "{}"}, files={"other": ("a.txt", b"a")})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "file")


def test_a_form_may_say_its_charset_and_have_metadata_as_a_file(ask: Asked) -> None:
    """As curl sends `-F 'file=@n.txt;type=text/plain;charset=latin-1' -F metadata=@meta.json`."""
    text = ("n.txt", "café".encode("latin-1"), "text/plain; charset=latin-1")
    meta = ("meta.json", '{"ward": "é"}'.encode(), "application/json")
    said = httpx.post(f"{ask.gateway.url}/v1/documents", files={"file": text, "metadata": meta}).json()
    assert (found(ask, said)["text"], said["metadata"]) == ("café", {"ward": "é"})


@pytest.mark.parametrize(
    "metadata",
    [b'{} , "x": {"y":1}', b"[]", b"{", b'{"a":1,"a":2}', b'"a"', b'{"a":"\xff"}', b'{"a":"\\ud800"}', b"{} {}"],
)
def test_metadata_of_a_form_is_one_object(ask: Asked, metadata: bytes) -> None:
    """What is wrong with it is said of it, however it is sent."""
    url = f"{ask.gateway.url}/v1/documents"
    for name in (None, "meta.json"):
        refused = httpx.post(url, files={"metadata": (name, metadata), "file": ("n.txt", b"a")})
        assert refused.status_code == 400, refused.text
        error = refused.json()["error"]
        assert "body" not in error["message"]
        assert error["param"] == "metadata" or (name is None and error["code"] == "invalid_utf8")


@pytest.mark.parametrize(
    ("content", "content_type", "status", "word"),
    [
        (b"\xff\xfe\xff", "text/plain", 400, "utf-16"),
        (b"caf\xe9", "text/plain", 400, "UTF-8"),
        (b"a", "text/plain; charset=klingon", 400, "klingon"),
        (b"a", "text/plain; charset=undefined", 400, "undefined"),
        (b"a", "text/plain; charset=rot13", 400, "rot13"),
        (rb"\ud800", "text/plain; charset=unicode_escape", 400, "unicode_escape"),
        (b"<p>a+2AA-</p>", "text/html; charset=utf7", 400, "utf7"),
        (b"%PDF-1.7 and nothing", "application/pdf", 400, "cannot be read"),
        (pdf(" "), "application/pdf", 400, "OCR"),
        (locked(pdf(*PAGES)), "application/pdf", 400, "password"),
        (b"<p></p>", "text/html", 400, "no words"),
        (b"<div>" * 100_000, "text/html", 400, "deep"),
    ],
)
def test_a_file_without_text_is_refused(ask: Asked, content: bytes, content_type: str, status: int, word: str) -> None:
    """The sentence says why."""
    refused = kept(ask, content, content_type)
    assert (refused.status_code, refused.json()["error"]["param"]) == (status, "file"), refused.text
    assert word in refused.json()["error"]["message"]


@pytest.mark.parametrize("name", ["Makefile", "analysis.ipynb", "README", "notes.unheard-of"])
def test_text_is_known_by_what_is_in_it(ask: Asked, name: str) -> None:
    """Where neither its type nor its name says so; what is no text is refused."""
    url = f"{ask.gateway.url}/v1/documents"
    said = httpx.post(url, files={"file": (name, b"all: serve\n", "application/octet-stream")}).json()
    assert (said["media_type"], found(ask, said)["text"]) == ("text/plain", "all: serve\n")
    for content in (b"\0all", b"\xffall"):
        files = {"file": (name.partition(".")[0], content, "application/octet-stream")}
        assert httpx.post(url, files=files).status_code == 415


def test_a_file_of_another_type_is_named(ask: Asked) -> None:
    """With those that can be read."""
    url = f"{ask.gateway.url}/v1/documents"
    refused = httpx.post(url, files={"file": ("a.docx", b"PK", "application/msword")})
    assert (refused.status_code, refused.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert "application/pdf" in refused.json()["error"]["message"]
    for content_type in ("image/png", "application/octet-stream", "application/msword"):
        refused = kept(ask, b"\x89PNG", content_type)
        assert (refused.status_code, refused.json()["error"]["code"]) == (415, "unsupported_media_type")
        assert "text/markdown" in refused.json()["error"]["message"]


@pytest.mark.parametrize("media_type", ["text/csv", "text/x-python", "application/yaml; charset=utf-8"])
def test_a_body_of_other_text_is_read_as_it_is(ask: Asked, media_type: str) -> None:
    """As a file of a form is."""
    reply = httpx.post(f"{ask.gateway.url}/v1/documents", content=b"a,b\n1,2\n", headers={"content-type": media_type})
    assert reply.status_code == 200, reply.text
    told = httpx.get(f"{ask.gateway.url}/v1/documents/{reply.json()['id']}").json()
    assert told["text"] == "a,b\n1,2\n"


@pytest.mark.parametrize("content_type", ["", "application/json; charset=utf-8", "application/x-www-form-urlencoded"])
def test_json_is_known_whatever_curl_calls_it(ask: Asked, content_type: str) -> None:
    """`curl -d` says that it is a form."""
    assert found(ask, kept(ask, b'{"text": "Zanprol"}', content_type).json())["text"] == "Zanprol"


def test_a_bomb_is_refused_and_the_next_file_is_read(ask: Asked) -> None:
    """A few kilobytes that would be gigabytes."""
    refused = kept(ask, pdf("a", more=b"%" + b"0" * 2**27 + b"\n"), "application/pdf")
    assert refused.status_code in (200, 400)
    assert found(ask, kept(ask, pdf(*PAGES), "application/pdf").json())["pages"] == [0, len(PAGES[0]) + 1]
