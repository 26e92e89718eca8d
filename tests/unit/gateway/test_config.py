"""Settings: later sources win, and whatever is wrong is named."""

import json
from pathlib import Path

import pytest

from gateway import config
from gateway.config import BackendConfig, Config, ConfigError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_without_anything_the_defaults_hold() -> None:
    """No file, no variable."""
    assert config.load(environ={}) == Config()


def test_file_then_environment_then_command_line() -> None:
    """Each overrides the one before; options that were not given override nothing."""
    Path("askonce.toml").write_text('port = 1\nhost = "a"\nworkers = 2\n')
    environ = {"ASKONCE_PORT": "3", "ASKONCE_HOST": "b", "OTHER": "x"}
    loaded = config.load(overrides={"port": 4, "workers": None}, environ=environ)
    assert (loaded.port, loaded.host, loaded.workers) == (4, "b", 2)


def test_backends_come_from_a_file_or_as_json() -> None:
    """As tables, or as the JSON of them."""
    backend = BackendConfig(kind="vllm", model="m", url="http://x", alias="n")
    Path("x.toml").write_text('[[backends]]\nkind = "vllm"\nmodel = "m"\nurl = "http://x"\nalias = "n"\n')
    assert config.load(Path("x.toml"), environ={}).backends == (backend,)
    as_json = '[{"kind": "vllm", "model": "m", "url": "http://x", "alias": "n"}]'
    assert config.load(environ={"ASKONCE_BACKENDS": as_json}).backends == (backend,)
    assert backend.served_name == "n"


def test_a_wrong_variable_is_named_also_when_an_option_overrides_it() -> None:
    """Whatever reads the environment next must not find it there."""
    with pytest.raises(ConfigError, match="ASKONCE_PORT is not valid"):
        config.load(overrides={"port": 18090}, environ={"ASKONCE_PORT": "abc"})


def test_a_policy_that_nothing_could_come_of_is_refused() -> None:
    """Finding by meaning takes a model that embeds, wherever that is named."""
    Path("askonce.toml").write_text('[[policies]]\nsemantic = "shadow"\n')
    with pytest.raises(ConfigError, match="embedding_model"):
        config.load(environ={})
    assert config.load(environ={"ASKONCE_EMBEDDING_MODEL": "e"}).policies[0].semantic == "shadow"


def test_settings_reach_another_process_unchanged() -> None:
    """As one line."""
    script = BackendConfig(kind="scripted", model="s", script=Path("s.toml"))
    server = BackendConfig(kind="vllm", model="m", url="http://x", api_key="k")
    sent = Config(port=0, data_dir=Path("d"), backends=(script, server), drain_s=0.5, threads=3)
    line = config.encoded(sent)
    assert b"\n" not in line
    assert config.decoded(line) == sent


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://x:8000", "http://x:8000"),
        ("http://x:8000/", "http://x:8000"),
        ("http://x:8000/v1", "http://x:8000"),
        ("https://x/openai/v1/", "https://x/openai"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
    ],
)
def test_a_server_may_be_written_as_other_programs_want_it(given: str, used: str) -> None:
    """With `/v1` or without, the same paths are asked."""
    assert BackendConfig(kind="openai", model="m", url=given).url == used


def test_guidance_is_llamacpps() -> None:
    """No other engine has words for it."""
    with pytest.raises(ConfigError, match="guidance"):
        config.load(
            environ={"ASKONCE_BACKENDS": '[{"kind": "vllm", "model": "m", "url": "http://x", "guidance": true}]'}
        )
    there = '[{"kind": "llamacpp", "model": "m", "url": "http://x", "guidance": true}]'
    assert config.load(environ={"ASKONCE_BACKENDS": there}).backends[0].guidance


def test_a_key_from_a_file_loses_its_line_end() -> None:
    """One that no header can carry is refused, and so is a user in the address beside it."""
    given = {"kind": "openai", "model": "m", "url": "http://server", "api_key": "sk-abc\n"}
    assert config.load(environ={"ASKONCE_BACKENDS": json.dumps([given])}).backends[0].api_key == "sk-abc"
    for wrong in ({"api_key": "sk\nabc"}, {"url": "http://user:pw@server"}):
        with pytest.raises(ConfigError, match="api_key"):
            config.load(environ={"ASKONCE_BACKENDS": json.dumps([given | wrong])})


def test_an_empty_variable_is_one_that_is_not_set(tmp_path: Path) -> None:
    """Not all addresses, and not this folder; in a file, where it must be meant, it is refused."""
    assert config.load(environ={"ASKONCE_HOST": "", "ASKONCE_DATA_DIR": "", "ASKONCE_PORT": ""}) == Config()
    file = tmp_path / "askonce.toml"
    for line in ('host = ""', 'model = ""', 'data_dir = ""'):
        file.write_text(line)
        with pytest.raises(ConfigError):
            config.load(file, environ={})


def test_the_line_that_is_wrong_is_named(tmp_path: Path) -> None:
    """Where it is no text, and where it is the second of two that cannot be told apart."""
    file = tmp_path / "askonce.toml"
    file.write_bytes(b'host = "127.0.0.1"\nport = 1\nmodel = "\xff"\n')
    with pytest.raises(ConfigError, match="line 3 is not UTF-8"):
        config.load(file, environ={})
    one = '[[backends]]\nkind = "vllm"\nmodel = "m"\nurl = "http://one:1"\n'
    file.write_text(f"{one}{one}{one.replace('one', 'two')}")
    with pytest.raises(ConfigError, match="line 5: two of `backends` serve 'm' as 'vllm@one:1'"):
        config.load(file, environ={})


def test_bytes_that_are_no_text_are_refused() -> None:
    """They could not be sent to another process."""
    with pytest.raises(ConfigError, match="not UTF-8"):
        config.load(environ={"ASKONCE_DATA_DIR": "/tmp/\udcff"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port = ", "x.toml"),
        ("prot = 1", "prot"),
        ('sql_port = 5433\ndatabase_url = "postgresql://x"', "`sql_port` is for the embedded Postgres"),
        ("port = 70000", "port"),
        ('port = "many"', "port"),
        ("workers = 0", "workers"),
        ("redis_deadline_s = 0", "redis_deadline_s"),
        ("drain_s = inf", "drain_s"),
        ("drain_s = nan", "drain_s"),
        ('[[backends]]\nkind = "vlm"\nmodel = "m"', "vlm"),
        ('[[backends]]\nkind = "vllm"', "model"),
        ('[[backends]]\nkind = "vllm"\nmodel = "m"\nport = 1', "port"),
        ('[[backends]]\nkind = "vllm"\nmodel = ""\nurl = "http://x"', "model"),
        ('[[backends]]\nkind = "vllm"\nmodel = "m"', "kind 'vllm' needs `url`"),
        ('[[backends]]\nkind = "openai"\nmodel = "m"', "kind 'openai' needs `url`"),
        ('[[backends]]\nkind = "ollama"\nmodel = "m"', "kind 'ollama' needs `url`"),
        ('[[backends]]\nkind = "llamacpp"\nmodel = "m"', "kind 'llamacpp' needs `url`"),
        ('[[backends]]\nkind = "scripted"\nmodel = "m"', "needs `script`"),
        ('[[backends]]\nkind = "vllm"\nmodel = "m"\nurl = "127.0.0.1:8000"', "`url` must be that of a server"),
        ('[[backends]]\nkind = "vllm"\nmodel = "m"\nurl = "ftp://x"', "`url` must be that of a server"),
        ('[[backends]]\nkind = "vllm"\nmodel = "m"\nurl = "http://"', "`url` must be that of a server"),
        ('[[backends]]\nkind = "vllm"\nmodel = "m"\nurl = "http://x:y"', "`url` must be that of a server"),
        ('[[backends]]\nkind = "vllm"\nmodel = "m"\nurl = "http://x?y=1"', "`url` must be that of a server"),
        ('[[backends]]\nkind = "ollama"\nmodel = "m"\nurl = "unix:/x"', "`url` must be that of a server"),
        ('[[backends]]\nkind = "vllm"\nmodel = "m"\nurl = "http://x"\n' * 2, "serve 'm' as 'vllm@x'"),
    ],
)
def test_a_wrong_file_is_named_with_its_field(text: str, words: str) -> None:
    """Unknown settings are refused too: a misspelt one would do nothing."""
    Path("x.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"x\.toml") as caught:
        config.load(Path("x.toml"), environ={})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ASKONCE_PROT", "1", "ASKONCE_PROT is no setting; there are: ASKONCE_HOST"),
        ("ASKONCE_PORT", "many", "port"),
        ("ASKONCE_BACKENDS", "{oops", "ASKONCE_BACKENDS is not valid JSON"),
        ("ASKONCE_BACKENDS", "{}", "backends"),
        ("ASKONCE_LOG_LEVEL", "loud", "loud"),
        ("ASKONCE_REDIS_URL", "nonsense", "`redis_url` must begin with redis:// or rediss:// or unix://"),
        ("ASKONCE_DATABASE_URL", "nonsense", "`database_url` must begin with postgresql:// or postgres://"),
        ("ASKONCE_DATA_DIR", "~nosuch/x", "`~nosuch/x` is in the home of a user who does not exist"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, words: str) -> None:
    """In one sentence."""
    with pytest.raises(ConfigError) as caught:
        config.load(environ={name: value})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::", "http://127.0.0.1:8080"),
        ("::1", "http://[::1]:8080"),
        ("box.lan", "http://box.lan:8080"),
    ],
)
def test_an_address_that_can_be_opened(host: str, url: str) -> None:
    """What is listened on everywhere is opened here."""
    assert config.local_url(host, 8080) == url


def test_a_file_that_is_not_there_is_named() -> None:
    """When it was asked for."""
    with pytest.raises(ConfigError, match=r"missing\.toml cannot be read: No such file"):
        config.load(Path("missing.toml"), environ={})
