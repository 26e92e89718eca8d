"""What goes to the processes that know LangExtract, and what they make of a recipe."""

import msgspec

from extractors.reading import Said


class Passage(msgspec.Struct, frozen=True):
    """One chunk, and what was said of it."""

    text: str
    start: int
    """Where it begins in the document."""
    said: tuple[Said, ...]


class Frame(msgspec.Struct, frozen=True):
    """What stands around a chunk in its prompt."""

    before: str
    after: str
    context: tuple[str, str]
    """What stands before the chunk where the text before it is shown too: up to that text, and from there on."""

    def prompt(self, chunk: str, context: str = "") -> str:
        """The prompt for a chunk; `context` is the text before it, if that is to be shown."""
        before = context.join(self.context) if context else self.before
        return f"{before}{chunk}{self.after}"
