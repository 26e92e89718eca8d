"""Documents with their records as lines of JSON, as LangExtract saves and loads them."""

from collections.abc import Iterable
from typing import Any

import msgspec

from extractors.grounded import Grounded

_ENCODE = msgspec.json.Encoder().encode


def line(document_id: str, text: str, records: Iterable[Grounded]) -> bytes:
    """One line, with its end. Raises `UnicodeEncodeError` for half surrogate pairs, which no file holds."""
    said = {"extractions": [_record(record, number) for number, record in enumerate(records)], "text": text}
    return _ENCODE(said | {"document_id": document_id}) + b"\n"


def _record(record: Grounded, number: int) -> dict[str, Any]:
    place = None if record.place is None else {"start_pos": record.start, "end_pos": record.end}
    return {
        "extraction_class": record.name,
        "extraction_text": record.text,
        "char_interval": place,
        "alignment_status": record.alignment,
        "extraction_index": number + 1,
        "group_index": record.group,
        "description": None,
        "attributes": record.attributes,
    }
