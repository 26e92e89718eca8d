"""Settings: the defaults below, then `askonce.toml`, then `ASKONCE_*` variables, then the command line."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
import platformdirs
from msgspec import Meta

from gateway.addresses import check_scheme, place, server_url
from gateway.locating import line_of
from storage.errors import AskonceError

PREFIX = "ASKONCE_"
FILE = "askonce.toml"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=1e9)]  # infinity could not be sent to the workers
Price = Annotated[float, Meta(ge=0, le=1e9)]
SemanticMode = Literal["off", "shadow", "on"]
BackendKind = Literal["vllm", "openai", "llamacpp", "ollama", "scripted"]


class ConfigError(AskonceError):
    """A setting is not valid."""


class ReplicaConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How one replica of a model is used."""

    name: str = ""
    """What replies, logs and figures call it; without one, its kind and address."""
    weight: Annotated[float, Meta(gt=0, le=1e6)] = 1.0
    """How much it takes, compared with the others of its model."""
    max_concurrency: Positive | None = None
    """The most requests it is given at once, by all workers together."""
    connect_timeout_s: Seconds = 5.0
    first_token_timeout_s: Seconds = 300.0
    between_tokens_timeout_s: Seconds = 120.0
    total_timeout_s: Seconds = 1800.0
    """From asking to the end, with everything that was tried before."""
    usd_per_million_prompt_tokens: Price = 0.0
    usd_per_million_completion_tokens: Price = 0.0
    usd_per_gpu_second: Price = 0.0

    @property
    def is_priced(self) -> bool:
        """Whether it is known what answers cost."""
        per_token = self.usd_per_million_prompt_tokens or self.usd_per_million_completion_tokens
        return bool(per_token or self.usd_per_gpu_second)

    def check_prices(self) -> None:
        """Raise `ValueError` for two ways of counting the same money."""
        if self.usd_per_gpu_second and (self.usd_per_million_prompt_tokens or self.usd_per_million_completion_tokens):
            message = "a backend's prices are for tokens or for GPU-seconds, not both"
            raise ValueError(message)


class BackendConfig(ReplicaConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model on one server, under the name clients ask for. Several of one name are replicas of that model."""

    kind: BackendKind
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
    prefix_states: Path | None = None
    """For llama.cpp: its `--slot-save-path`, in which it may save what it has computed of long prompts."""
    prefix_states_max_bytes: Positive = 2**30
    script: Path | None = None
    """TOML lines for the kind `scripted`."""
    tools: Literal["auto", "native", "prompted", "refused"] = "auto"
    """How tools reach the model: as the server says it can, by the engine, in the prompt, or not at all."""
    unsupported: Literal["refuse", "pass"] = "refuse"
    """What becomes of a parameter that the engine cannot honour."""
    guidance: bool = False
    """Whether a llama.cpp has LLGuidance. One that has not ends when it is asked for it."""
    kv_unified: bool = False
    """Whether a llama.cpp has one KV cache for all slots. One that has not embeds texts wrongly that it is given at the
    same time: each is sent alone.
    """

    def __post_init__(self) -> None:
        """Raise `ValueError` where `kind` lacks what it needs, and for a key that no header can carry."""
        msgspec.structs.force_setattr(self, "api_key", self.api_key.strip())
        if not self.api_key.isprintable():
            message = "`api_key` has characters that no header can carry"
            raise ValueError(message)
        if self.api_key and "@" in self.url.partition("://")[2].partition("/")[0]:
            message = "`url` has a user and there is an `api_key` too: give one of them"
            raise ValueError(message)
        self._check_llamacpp()
        if self.kind == "scripted":
            if self.script is None:
                message = "a backend of kind 'scripted' needs `script`, a TOML file with its lines"
                raise ValueError(message)
        else:
            msgspec.structs.force_setattr(self, "url", server_url(self.kind, self.url))
        if not self.name.isprintable() or not self.name.isascii():
            message = "`name` has characters that no header can carry"
            raise ValueError(message)
        self.check_prices()

    def _check_llamacpp(self) -> None:
        """Raise `ValueError` for what is said of another kind, and of states whose weights are not."""
        if self.prefix_states and not self.model_version:
            message = "`prefix_states` needs `model_version`: states belong to weights"
            raise ValueError(message)
        for name in ("prefix_states", "guidance", "kv_unified"):
            if getattr(self, name) and self.kind != "llamacpp":
                message = f"`{name}` is for the kind 'llamacpp', not '{self.kind}'"
                raise ValueError(message)

    @property
    def served_name(self) -> str:
        """The name clients use."""
        return self.alias or self.model

    @property
    def replica_name(self) -> str:
        """What it is called beside the others of its model. An address is shown without its user."""
        return self.name or f"{self.kind}{place(self.url)}"


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the replicas of one model work together."""

    name: Annotated[str, Meta(min_length=1)]
    """The name clients use."""
    fallback: tuple[str, ...] = ()
    """Who answers, first to last: kinds of backends, and names of other models. Kinds left out keep the usual order."""
    queue_max: Annotated[int, Meta(ge=0)] = 1000
    """How many requests of a worker may wait while all replicas have as many as they take."""
    queue_deadline_s: Seconds = 30.0
    """The longest they wait."""
    retries: Annotated[int, Meta(ge=0, le=10)] = 2
    """How often a request is tried again that failed before its first token."""


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
    semantic: SemanticMode = "off"
    """Whether what is kept of a question that means the same is given: `shadow` asks the model, and writes down what
    would have been given.
    """
    semantic_threshold: Annotated[float, Meta(ge=0, le=1)] = 0.9
    """How near two questions must be at least: the cosine of their vectors."""
    semantic_judge: str = ""
    """Which model is asked whether they mean the same, by the name clients use; empty is none."""
    semantic_deadline_s: Seconds = 1.0
    """How long all of this may take, before the model is asked after all."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every setting and its default."""

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    data_dir: Path | None = None
    """Where everything embedded lives; None is this user's data folder (`platformdirs`)."""
    recipes_dir: Path | None = None
    """Where recipes for extraction are; None is `recipes` in the data folder."""
    queries_dir: Path | None = None
    """Where saved queries are; None is `queries` in the data folder."""
    extraction_processes: Positive = 2
    """How many processes of a worker find the places of records, when there is anything to find."""
    workers: Positive = 1
    model: Annotated[str, Meta(min_length=1)] = "default"
    """What the engine serves: `default`, `bundled`, `none`, or a model in a form that the engine takes."""
    engine: Literal["llamacpp", "ollama", "vllm"] = "llamacpp"
    """Which model server is started for `model`, and looked after."""
    engine_args: tuple[str, ...] = ()
    """Further words of its command line; for Ollama, which has none, `NAME=value` of its environment."""
    vllm_python: Path | None = None
    """The Python of the environment that vLLM is installed in; None is this one."""
    ollama_program: Path | None = None
    """The program `ollama`; None is the one on the PATH."""
    gpu_memory_share: Annotated[float, Meta(gt=0, le=1)] | None = None
    """How much of a GPU's memory vLLM takes; None leaves it to vLLM."""
    kv_offload_max_bytes: Annotated[int, Meta(ge=0)] = 0
    """How much of what it has computed vLLM moves from the GPU to this machine's memory; 0 is nothing."""
    kv_offload_dir: Path | None = None
    """Where vLLM also writes it to disk, without a bound of its own."""
    prefix_states_max_bytes: Annotated[int, Meta(ge=0)] = 2**30
    """How much of what the embedded llama.cpp has computed of long prompts is kept on disk; 0 is nothing."""
    backends: tuple[BackendConfig, ...] = ()
    """Further models. With any of these and no `model` of its own, no llama.cpp is started."""
    models: tuple[ModelConfig, ...] = ()
    """How the backends of one name work together, where that is to be other than usual."""
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
    ready_max_bytes: Positive = 32 * 2**20
    redis_max_bytes: Positive = 256 * 2**20
    redis_ttl_s: Positive = 7 * 24 * 3600
    record_max_bytes: Annotated[int, Meta(ge=0)] = 0
    """What the answers in Postgres may take on disk; 0 is no bound."""
    responses_ttl_s: Positive = 30 * 24 * 3600
    """How long a response can be found again and followed; a policy's `ttl_s` may make it shorter."""
    redis_deadline_s: Seconds = 0.25
    database_deadline_s: Seconds = 1.0
    database_connections: Positive = 8
    tenant_sql: Literal["auto", "on", "off"] = "auto"
    """Whether tenants may use SQL: `auto` is with the embedded Postgres only."""
    sql_database_url: str = ""
    """A replica of the Postgres at `database_url`, for tenants' SQL; empty is that itself. The embedded has its own."""
    sql_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Of 127.0.0.1, where tenants' roles can log in to the standby of the embedded Postgres; 0 is none."""
    sql_timeout_s: Seconds = 10.0
    sql_max_rows: Positive = 10_000
    sql_max_bytes: Positive = 16 * 2**20
    sql_connections: Positive = 4
    """How many statements of tenants a worker has run at the same time."""
    embedding_model: str = ""
    """Which model embeds prompts, documents and records in the background, by the name clients use; or one in a form
    that `model` takes, which gets a llama.cpp of its own. Empty is none.
    """
    max_body_bytes: Positive = 32 * 2**20
    context_tokens: Positive | None = None
    """Context of each request; None is the engine's own, for llama.cpp what the model was trained for, up to 8192."""
    slots: Positive = 4
    """How many requests the embedded llama.cpp, or Ollama, answers at once."""
    threads: Positive | None = None
    """How many threads the embedded llama.cpp uses; None is all cores but one."""
    drain_s: Seconds = 30.0
    """How long open requests may take to finish when the server stops."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def __post_init__(self) -> None:
        """Raise `ValueError` for addresses that nothing can be reached at, and models that hide each other."""
        if self.kv_offload_dir and not self.kv_offload_max_bytes:
            message = "`kv_offload_dir` needs `kv_offload_max_bytes`: what goes to the disk goes through memory"
            raise ValueError(message)
        check_scheme("database_url", self.database_url, ("postgresql://", "postgres://"))
        check_scheme("sql_database_url", self.sql_database_url, ("postgresql://", "postgres://"))
        check_scheme("redis_url", self.redis_url, ("redis://", "rediss://", "unix://"))
        if self.sql_port and self.database_url:
            message = "`sql_port` is for the embedded Postgres; the one at `database_url` listens where it does"
            raise ValueError(message)
        self._check_replicas()
        self._check_models()

    def embedded_model(self) -> str | None:
        """What the engine shall serve: nothing when other backends are configured and no model was asked for."""
        if self.model == "none" or (self.model == "default" and self.backends):
            return None
        return self.model

    def embedded_embedder(self) -> str | None:
        """What a llama.cpp beside the engine shall serve: an `embedding_model` that no backend is called."""
        wanted = self.embedding_model
        if wanted in {self.model, *(backend.served_name for backend in self.backends)}:
            return None
        return wanted if "/" in wanted or wanted.endswith(".gguf") else None

    def _check_replicas(self) -> None:
        """Raise `ValueError` for two replicas of one model that nobody could tell apart."""
        names = [(backend.served_name, backend.replica_name) for backend in self.backends]
        for number, (model, name) in enumerate(names):
            if (model, name) in names[:number]:
                message = (
                    f"two of `backends` serve '{model}' as '{name}': give one of them another `name`"
                    f" - at `$.backends[{number}]`"
                )
                raise ValueError(message)

    def _check_models(self) -> None:
        """Raise `ValueError` for `models` that occur twice or that nothing serves. The embedded one's name is not
        known yet."""
        served = {backend.served_name for backend in self.backends}
        known, names = served | set(get_args(BackendKind)), [model.name for model in self.models]
        for model in self.models:
            if names.count(model.name) > 1:
                message = f"two of `models` are called '{model.name}'"
                raise ValueError(message)
            if self.embedded_model() is not None:
                continue
            if unserved := ({model.name} - served) | (set(model.fallback) - known):
                message = f"`models` names '{min(unserved)}', which none of `backends` is served as"
                raise ValueError(message)

    def folder(self) -> Path:
        """The data folder. As root, a system one: another user's program must be able to reach into it."""
        return self.data_dir or Path(platformdirs.user_state_dir("askonce", appauthor=False, use_site_for_root=True))

    def recipes_folder(self) -> Path:
        """Where recipes for extraction are. It need not be there."""
        return (self.recipes_dir or self.folder() / "recipes").expanduser()

    def queries_folder(self) -> Path:
        """Where saved queries are. It need not be there."""
        return (self.queries_dir or self.folder() / "queries").expanduser()


_LISTS = frozenset({"backends", "models", "policies", "engine_args"})
"""Settings that a variable holds as JSON."""

CHANGEABLE = frozenset({"backends", "models", "policies"})
"""What may be another while askonce serves. Everything else was used to start it."""


def changed(before: Config, after: Config) -> list[str]:
    """The names of the settings that differ. Raises `ConfigError` when one of them cannot while askonce serves."""
    names = [name for name in Config.__struct_fields__ if getattr(before, name) != getattr(after, name)]
    fixed = [name for name in names if name not in CHANGEABLE]
    if before.embedded_model() != after.embedded_model():
        fixed.append("model")
    if fixed:
        message = f"`{fixed[0]}` cannot be changed while askonce runs: put it back, or restart. Nothing was changed."
        raise ConfigError(message)
    return names


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
    if not config.embedding_model and any(policy.semantic != "off" for policy in config.policies):
        message = "A policy has `semantic`, but nothing is found by its meaning without an `embedding_model`; name one."
        raise ConfigError(message)
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
    text = ""
    try:
        text = _text(path)
        values = msgspec.toml.decode(text)
        msgspec.convert(values, Config, strict=False, dec_hook=_path)
    except OSError as error:
        message = f"The settings file {path} cannot be read: {error.strerror}."
        raise ConfigError(message) from error
    except (msgspec.DecodeError, ValueError) as error:  # a decoder's own words name the line
        line = line_of(text, str(error)) if isinstance(error, msgspec.ValidationError) else None
        message = f"{path}, line {line}: {error}" if line else f"{path}: {error}"
        raise ConfigError(message) from error
    return values


def _text(path: Path) -> str:
    """Raises `ValueError` with the line that is no text, and `OSError`."""
    content = path.read_bytes()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        message = f"line {number} is not UTF-8"
        raise ValueError(message) from error


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
        found[name] = _json(variable, text) if name in _LISTS else text
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


def _json(variable: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        message = f"{variable} is not valid JSON: {error}"
        raise ConfigError(message) from error


def config_file(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The settings file named by `ASKONCE_CONFIG_FILE`."""
    return Path(environ[PREFIX + "CONFIG_FILE"]) if environ.get(PREFIX + "CONFIG_FILE") else None
