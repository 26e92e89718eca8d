"""Root finds somebody else to run Postgres as; everybody else stays who they are."""

import asyncio
import os
import pwd
import signal
import subprocess
from pathlib import Path

import pytest

from storage.embedded import privileges
from storage.embedded.privileges import Identity, before_exec, server_identity
from storage.errors import EmbeddedError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def test_a_normal_user_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers run as that user."""
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("nobody").pw_uid)
    assert server_identity() is None


def test_a_user_without_a_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """initdb insists on one."""
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    with pytest.raises(EmbeddedError, match=r"User 4000000 has no name .* ASKONCE_DATABASE_URL"):
        server_identity()


@pytest.mark.parametrize(("permitted", "expected"), [(0b110, 2), (0b100, 2), (0b010, 1)])
def test_the_weaker_capability_is_preferred(monkeypatch: pytest.MonkeyPatch, permitted: int, expected: int) -> None:
    """Reading everything, where the container allows it, else overriding permissions."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(privileges, "_permitted_capabilities", lambda: permitted)
    identity = server_identity()
    assert identity is not None
    assert identity.capability == expected


def test_a_root_without_rights_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not enter the server's folders either."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(privileges, "_permitted_capabilities", lambda: 0)
    with pytest.raises(EmbeddedError, match="ASKONCE_DATABASE_URL"):
        server_identity()


@as_root
async def test_one_capability_is_all_that_is_kept(tmp_path: Path) -> None:
    """The child has another user and no groups; it may cross this private folder to run a program, but not write."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    program = closed / "program"
    program.write_text("#!/bin/sh\ntest -x $0 && id -u && id -G && grep CapEff /proc/self/status; touch $0.new\n")
    program.chmod(0o755)
    change = before_exec(signal.SIGTERM, Identity(uid=65534, gid=65534, capability=2))
    child = await asyncio.create_subprocess_exec(
        program, preexec_fn=change, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    said = (await child.communicate())[0].decode().split()
    assert said == ["65534", "65534", "CapEff:", "0000000000000004"]
    assert [path.name for path in os.scandir(closed)] == ["program"]
