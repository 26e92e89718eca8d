"""A process running as root comes in, the user that a server refusing root can run as goes out (Linux)."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec

from storage.errors import EmbeddedError

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2

# Looked up once and before any fork: between fork and exec nothing may be loaded.
_libc = ctypes.CDLL(None, use_errno=True)


class Identity(msgspec.Struct, frozen=True):
    """The unprivileged user a server runs as; `capability` lets it cross folders that only root may enter."""

    uid: int
    gid: int
    capability: int


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityWord(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def server_identity() -> Identity | None:
    """The identity to start a server under that refuses root; None when this process is not root and needs no change.

    Raises:
        EmbeddedError: this user has no name, or root has no unprivileged user to become, or may not cross folders.
    """
    if os.geteuid() != 0:
        if user_name(os.geteuid()) is None:
            message = f"User {os.geteuid()} has no name on this system, which Postgres needs: set ASKONCE_DATABASE_URL."
            raise EmbeddedError(message)
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as missing:
        message = "Postgres refuses to run as root and there is no user 'nobody': set ASKONCE_DATABASE_URL."
        raise EmbeddedError(message) from missing
    return Identity(uid=nobody.pw_uid, gid=nobody.pw_gid, capability=_crossing_capability())


def user_name(uid: int) -> str | None:
    """The name of user `uid`, or None when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def before_exec(death_signal: signal.Signals, identity: Identity | None) -> Callable[[], None]:
    """What a child runs between fork and exec: become `identity`, then ask for `death_signal` when its parent ends."""
    parent_pid = os.getpid()
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    words = (_CapabilityWord * 2)()
    if identity:
        bit = 1 << identity.capability
        words[0] = _CapabilityWord(bit, bit, bit)

    def run() -> None:
        if identity:
            _become(identity, header, words)
        # After the change of user, which clears it.
        _checked(_libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0))
        if os.getppid() != parent_pid:
            os._exit(1)  # The parent ended before we could ask: nobody would ever tell us.

    return run


def _become(identity: Identity, header: _CapabilityHeader, words: ctypes.Array[_CapabilityWord]) -> None:
    _checked(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
    # Without this bit access(2), by which Postgres looks for its own programs, ignores capabilities. It may be refused:
    # then only programs under a folder closed to others stay out of reach.
    _libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    _checked(_libc.capset(ctypes.byref(header), words))
    _checked(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, identity.capability, 0, 0))


def _crossing_capability() -> int:
    """Reading suffices to cross a folder; Docker's default set has only the stronger override."""
    permitted = _permitted_capabilities()
    for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
        if permitted >> capability & 1:
            return capability
    # Then root itself could not enter the folder of another user either.
    raise EmbeddedError(
        "Postgres refuses to run as root, and this root may not enter other users' folders: set ASKONCE_DATABASE_URL."
    )


def _permitted_capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapPrm:"):
            return int(line.split()[1], 16)
    return 0


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
