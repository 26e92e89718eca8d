"""One running askonce with the bundled model, shared by the tests that only talk to it."""

import shutil
from collections.abc import Iterator

import pytest

from tests.acceptance.serving import Served, short_folder


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """`askonce serve --model bundled` on a folder of its own."""
    folder = short_folder()
    server = Served(folder, "--model", "bundled")
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
