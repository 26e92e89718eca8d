"""What engines are told, and what is understood of their logs."""

import subprocess
from pathlib import Path

import msgspec
import pytest

from gateway.config import BackendConfig, Config, ConfigError
from gateway.engines import ENGINES, ollama, vllm
from gateway.engines.engine import expect_free_name, marked
from gateway.engines.loading import Said
from gateway.models.repository import ModelFolder
from tests.engines.vllm import PYTHON, environment

MODEL = ModelFolder(Path("/models/m"), "the-name")
PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
said = make_arg_parser(FlexibleArgumentParser()).parse_args(json.loads(sys.argv[1]))
names = ("uds", "served_model_name", "seed", "generation_config", "enable_prompt_tokens_details", "fingerprint_mode",
         "fingerprint_value", "max_model_len", "gpu_memory_utilization", "kv_offloading_size", "dtype")
found = {name: getattr(said, name) for name in names}
found["structured"] = said.structured_outputs_config.disable_any_whitespace
transfer = said.kv_transfer_config
found["transfer"] = transfer and [transfer.kv_connector, transfer.kv_connector_extra_config]
print(json.dumps(found))
"""


def told(config: Config) -> tuple[str, ...]:
    """The words for `vllm serve`."""
    return vllm.arguments(MODEL, Path("/run/vllm.sock"), "abc", config)


def test_every_engine_has_its_line() -> None:
    """The setting offers what the table has."""
    field = next(field for field in msgspec.structs.fields(Config) if field.name == "engine")
    assert set(field.type.__args__) == set(ENGINES)


@pytest.mark.engines
def test_vllm_itself_understands_what_it_is_told(tmp_path: Path) -> None:
    """Its own parser takes every word, offloading included; the words of the settings win."""

    def parsed(config: Config) -> dict[str, object]:
        words = msgspec.json.encode(told(config)[1:]).decode()
        done = subprocess.run(
            [PYTHON, "-c", PARSE, words], env=environment(tmp_path), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return msgspec.json.decode(done.stdout.splitlines()[-1], type=dict[str, object])

    said = parsed(
        Config(context_tokens=2048, gpu_memory_share=0.5, kv_offload_max_bytes=2**31, engine_args=("--dtype=half",))
    )
    assert said == {
        "uds": "/run/vllm.sock",
        "served_model_name": ["the-name"],
        "seed": said["seed"],
        "generation_config": "vllm",
        "enable_prompt_tokens_details": True,
        "fingerprint_mode": "custom",
        "fingerprint_value": "abc",
        "max_model_len": 2048,
        "gpu_memory_utilization": 0.5,
        "kv_offloading_size": 2.0,
        "dtype": "half",
        "structured": True,
        "transfer": None,
    }
    disk = parsed(Config(kv_offload_max_bytes=2**20, kv_offload_dir=Path("/disk")))
    tiers = {"secondary_tiers": [{"type": "fs", "root_dir": "/disk/abc"}]}
    more = {"cpu_bytes_to_use": 2**20, "spec_name": "TieringOffloadingSpec"} | tiers
    assert disk["transfer"] == ["OffloadingConnector", more]


def test_each_start_has_a_seed_of_its_own() -> None:
    """Or what was sampled before a restart would be sampled again."""
    seeds = {words[words.index("--seed") + 1] for words in (told(Config()) for _ in range(20))}
    assert len(seeds) > 15


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01]", Said("loading weights", 0.5)),
        (
            "(EngineCore pid=1) INFO 11-22 09:19:42 [loader.py:1] Loading weights took 1.5 seconds",
            Said("weights are loaded"),
        ),
        ("Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  30%|###  | 3/10", Said("capturing graphs", 0.3)),
        ("(APIServer pid=1) INFO [x.py:1] torch.compile takes 10 s in total", Said("compiling")),
        ("(APIServer pid=1) WARNING [vllm.py:1703] Enforce eager set, disabling torch.compile, CUDAGraphs", None),
        ("anything else", None),
    ],
)
def test_the_load_of_vllm_is_understood(line: str, said: Said | None) -> None:
    """Lines as vLLM writes them."""
    assert vllm.understood(line) == said


def test_the_cause_is_not_its_consequence() -> None:
    """vLLM's last error says only that there was another."""
    log = (
        "ERROR [core.py] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n"
        "(APIServer) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
    )
    assert vllm.cause(log) == "CUDA out of memory. Tried to allocate 2 GiB"
    assert vllm.cause("vllm serve: error: unrecognized arguments: --x") == "unrecognized arguments: --x"
    assert vllm.cause("nothing of that kind") == ""


@pytest.mark.engines
def test_a_machine_without_a_gpu_is_told_what_to_do(tmp_path: Path) -> None:
    """Real vLLM that looks for a GPU and is shown none; its own words lead nowhere."""
    env = environment(tmp_path) | {"CUDA_VISIBLE_DEVICES": ""}
    del env["VLLM_TARGET_DEVICE"]
    words = [str(PYTHON), "-m", "vllm.entrypoints.cli.main", *told(Config())]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "VLLM_TARGET_DEVICE=cpu" in vllm.cause(done.stdout + done.stderr)


def test_ollama_is_told_by_its_environment() -> None:
    """Its port is ours to choose, all else the settings'."""
    config = Config(slots=3, context_tokens=4096, engine_args=("OLLAMA_KEEP_ALIVE=1m", "OLLAMA_HOST=0.0.0.0"))
    told = ollama.variables(4711, config)
    assert told["OLLAMA_HOST"] == "127.0.0.1:4711"
    assert (told["OLLAMA_NUM_PARALLEL"], told["OLLAMA_CONTEXT_LENGTH"], told["OLLAMA_KEEP_ALIVE"]) == (
        "3",
        "4096",
        "1m",
    )
    with pytest.raises(ConfigError, match="not '--flag'"):
        ollama.variables(4711, Config(engine_args=("--flag",)))


def test_children_do_not_get_our_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may hold keys."""
    monkeypatch.setenv("ASKONCE_ADMIN_KEY", "k" * 20)
    monkeypatch.setenv("HARMLESS", "1")
    told = ollama.variables(1, Config())
    assert "ASKONCE_ADMIN_KEY" not in told
    assert told["HARMLESS"] == "1"


def test_what_an_engine_is_told_is_in_its_version() -> None:
    """It can change answers."""
    assert marked("1.0", ()) == "1.0"
    assert len({marked("1.0", words) for words in ((), ("a",), ("b",), ("a", "b"), ("ab",))}) == 5


def test_a_name_that_is_taken_is_refused() -> None:
    """Before anything is loaded."""
    config = Config(backends=(BackendConfig(kind="openai", model="m", url="http://127.0.0.1:1"),))
    with pytest.raises(ConfigError, match="another `alias`"):
        expect_free_name(config, "m")
    expect_free_name(config, "n")


def test_settings_that_cannot_work_together_are_refused() -> None:
    """What goes to the disk goes through memory; states belong to weights."""
    with pytest.raises(ValueError, match="kv_offload_max_bytes"):
        Config(kv_offload_dir=Path("/disk"))
    with pytest.raises(ValueError, match="model_version"):
        BackendConfig(kind="llamacpp", model="m", url="http://127.0.0.1:1", prefix_states=Path("/states"))
