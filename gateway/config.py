"""Settings: the defaults below, then `askonce.toml`, then `ASKONCE_*` variables, then the command line."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
import platformdirs
from msgspec import Meta

from storage.errors import AskonceError

PREFIX = "ASKONCE_"
FILE = "askonce.toml"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=1e9)]  # infinity could not be sent to the workers


class ConfigError(AskonceError):
    """A setting is not valid."""


class BackendConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model on one server, under the name clients ask for."""

    kind: Literal["vllm", "openai", "llamacpp", "ollama", "scripted"]
    model: Annotated[str, Meta(min_length=1)]
    """The server's name for the model."""
    url: str = ""
    """`http://host:port`, a `/v1` at its end is left out; `unix:/path` for a server on a socket."""
    alias: str = ""
    """The name clients use; the same as `model` when empty."""
    api_key: str = ""
    engine_version: str = ""
    """Only with `model_version`: who answers, said here instead of asked of the server."""
    model_version: str = ""
    script: Path | None = None
    """TOML lines for the kind `scripted`."""
    kv_unified: bool = False
    """Whether a llama.cpp has one KV cache for all slots. One that has not embeds texts wrongly that it is given at the
    same time: each is sent alone.
    """
    connect_timeout_s: Seconds = 5.0
    read_timeout_s: Seconds = 300.0
    """Longest silence before the first token and between tokens."""

    def __post_init__(self) -> None:
        """Raise `ValueError` where `kind` lacks what it needs, and for a key that no header can carry."""
        msgspec.structs.force_setattr(self, "api_key", self.api_key.strip())
        if self.kv_unified and self.kind != "llamacpp":
            message = f"`kv_unified` is for the kind 'llamacpp', not '{self.kind}'"
            raise ValueError(message)
        if not self.api_key.isprintable():
            message = "`api_key` has characters that no header can carry"
            raise ValueError(message)
        if self.api_key and "@" in self.url.partition("://")[2].partition("/")[0]:
            message = "`url` has a user and there is an `api_key` too: give one of them"
            raise ValueError(message)
        if self.kind == "scripted":
            if self.script is None:
                message = "a backend of kind 'scripted' needs `script`, a TOML file with its lines"
                raise ValueError(message)
        else:
            msgspec.structs.force_setattr(self, "url", _server_url(self.kind, self.url))

    @property
    def served_name(self) -> str:
        """The name clients use."""
        return self.alias or self.model


class PolicyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is kept of some tenants' requests to some models. The first policy that fits a request counts."""

    tenant: str = "*"
    """Whose requests; `*`, `?` and `[a-c]` stand for any text, any letter and one of these, `shared/NAME` for a
    namespace.
    """
    model: str = "*"
    """To which models, by the names clients use; patterns too."""
    ttl_s: Seconds | None = None
    """How long an answer counts; None is for ever. A hit does not extend it."""
    keep_sampled: bool = True
    """Whether answers are kept that would differ each time: a temperature above zero and no seed."""
    max_answer_bytes: Positive = 16 * 2**20
    """Larger answers are given, but not kept."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every setting and its default."""

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    data_dir: Path | None = None
    """Where everything embedded lives; None is this user's data folder (`platformdirs`)."""
    workers: Positive = 1
    model: Annotated[str, Meta(min_length=1)] = "default"
    """What llama.cpp serves: `default`, `bundled`, `none`, a GGUF file, a Hugging Face folder or `org/repo:file`."""
    backends: tuple[BackendConfig, ...] = ()
    """Further models. With any of these and no `model` of its own, no llama.cpp is started."""
    policies: tuple[PolicyConfig, ...] = ()
    """What is kept, and how long; without any, everything and for ever."""
    database_url: str = ""
    """Empty starts the embedded Postgres."""
    redis_url: str = ""
    """Empty starts the embedded Redis."""
    admin_key: Annotated[str, Meta(pattern=r"^(.{20,})?$")] = ""
    """A key that is good for everything, of 20 characters or more; with it, every request needs a key."""
    hf_endpoint: str = ""
    hf_token: str = ""
    memory_max_bytes: Positive = 64 * 2**20
    redis_max_bytes: Positive = 256 * 2**20
    redis_ttl_s: Positive = 7 * 24 * 3600
    redis_deadline_s: Seconds = 0.25
    database_deadline_s: Seconds = 1.0
    database_connections: Positive = 8
    max_body_bytes: Positive = 32 * 2**20
    context_tokens: Positive | None = None
    """Context of each embedded llama.cpp slot; None is what the model was trained for, up to 8192."""
    slots: Positive = 4
    """How many requests the embedded llama.cpp answers at once."""
    threads: Positive | None = None
    """How many threads the embedded llama.cpp uses; None is all cores but one."""
    drain_s: Seconds = 30.0
    """How long open requests may take to finish when the server stops."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def __post_init__(self) -> None:
        """Raise `ValueError` for addresses that nothing can be reached at, and models that hide each other."""
        _check_scheme("database_url", self.database_url, ("postgresql://", "postgres://"))
        _check_scheme("redis_url", self.redis_url, ("redis://", "rediss://", "unix://"))
        names = [backend.served_name for backend in self.backends]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            message = f"two of `backends` are served as '{twice[0]}': give one of them another `alias`"
            raise ValueError(message)

    def embedded_model(self) -> str | None:
        """What llama.cpp shall serve: nothing when other backends are configured and no model was asked for."""
        if self.model == "none" or (self.model == "default" and self.backends):
            return None
        return self.model

    def folder(self) -> Path:
        """The data folder. As root, a system one: another user's program must be able to reach into it."""
        return self.data_dir or Path(platformdirs.user_state_dir("askonce", appauthor=False, use_site_for_root=True))


def local_url(host: str, port: int) -> str:
    """The address at which this machine opens what listens on `host` and `port`."""
    if host in {"0.0.0.0", "::", ""}:  # noqa: S104 -- not listened on: made an address that can be opened
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def load(
    file: Path | None = None, overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] = os.environ
) -> Config:
    """The settings in force. `file` must exist when it is given; `askonce.toml` here is read when it does.

    Raises `ConfigError`, with the file, variable and field named.
    """
    values = _from_file(file)
    values |= _from_environ(environ)
    values |= {name: value for name, value in (overrides or {}).items() if value is not None}
    try:
        config = msgspec.convert(values, Config, strict=False, dec_hook=_path)
        encoded(config)
    except msgspec.ValidationError as error:
        message = f"The settings are not valid: {error}."
        raise ConfigError(message) from error
    except UnicodeEncodeError as error:
        message = f"A setting is not UTF-8: {error.object!r}."
        raise ConfigError(message) from error
    return config


def encoded(config: Config) -> bytes:
    """`config` as one line of JSON, for another process."""
    return msgspec.json.encode(config, enc_hook=str)


def decoded(line: bytes | str) -> Config:
    """What `encoded` was given. Raises `msgspec.DecodeError`."""
    return msgspec.json.decode(line, type=Config, dec_hook=_path)


def _from_file(file: Path | None) -> dict[str, Any]:
    path = file or Path(FILE)
    if file is None and not path.is_file():
        return {}
    try:
        values = msgspec.toml.decode(path.read_bytes())
        msgspec.convert(values, Config, strict=False, dec_hook=_path)
    except OSError as error:
        message = f"The settings file {path} cannot be read: {error.strerror}."
        raise ConfigError(message) from error
    except (msgspec.DecodeError, ValueError) as error:
        message = f"{path}: {error}"
        raise ConfigError(message) from error
    return values


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable, text in environ.items():
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or name == "config_file":
            continue
        if not text and name in Config.__struct_fields__:  # an empty variable is one that is not set
            continue
        if name not in Config.__struct_fields__:
            known = ", ".join(PREFIX + field.upper() for field in Config.__struct_fields__)
            message = f"{variable} is no setting; there are: {known}."
            raise ConfigError(message)
        found[name] = _json(variable, text) if name in {"backends", "policies"} else text
        _check_variable(variable, name, found[name])
    return found


def _check_variable(variable: str, name: str, value: Any) -> None:
    """Each by itself, like the file: an option that overrides a wrong value must not hide it."""
    try:
        msgspec.convert({name: value}, Config, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        message = f"{variable} is not valid: {error}."
        raise ConfigError(message) from error


def _path(kind: type, value: Any) -> Any:
    if kind is not Path or not isinstance(value, str | Path):
        message = f"Expected a path, got {value!r}"
        raise TypeError(message)
    if not str(value):
        message = "a path is empty"
        raise ValueError(message)
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        message = f"`{value}` is in the home of a user who does not exist"
        raise ValueError(message) from error


def _server_url(kind: str, url: str) -> str:
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


def _check_scheme(name: str, url: str, schemes: tuple[str, ...]) -> None:
    """Raise `ValueError` unless `url` is empty or begins with one of `schemes`. It may hold a password: not shown."""
    if url and not url.startswith(schemes):
        message = f"`{name}` must begin with {' or '.join(schemes)}"
        raise ValueError(message)


def _json(variable: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        message = f"{variable} is not valid JSON: {error}"
        raise ConfigError(message) from error


def config_file(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The settings file named by `ASKONCE_CONFIG_FILE`."""
    return Path(environ[PREFIX + "CONFIG_FILE"]) if environ.get(PREFIX + "CONFIG_FILE") else None
