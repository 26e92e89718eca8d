"""compose.yaml and the Dockerfile: valid by the specification, pinned, healthy, and naming only what exists."""

import json
import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from jsonschema.validators import validator_for

from gateway.cli import main
from gateway.config import PREFIX, Config

ROOT = Path(__file__).parent.parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
HEADER = (ROOT / "compose.yaml").read_text().partition("\nname:")[0]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SCHEMA = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"

every_service = pytest.mark.parametrize("name", SERVICES)


def test_the_specification_accepts_it() -> None:
    """The file is valid by the JSON schema that the compose specification publishes."""
    schema = json.loads(Path(str(distribution("check-jsonschema").locate_file(SCHEMA))).read_text())
    validator = validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(COMPOSE)] == []


def test_the_stack_is_whole() -> None:
    """Every part of the full stack is there, and the default start needs neither a GPU nor the image engine."""
    assert set(SERVICES) >= {"gateway", "redis", "postgres", "objects", "vllm", "ollama", "image-worker"}
    assert SERVICES["vllm"]["profiles"] == ["gpu"]
    assert SERVICES["image-worker"]["profiles"] == ["images"]


def test_what_is_advertised_runs_commands_that_exist() -> None:
    """A service of our image that the first lines tell people to start does not end with "No such command"."""
    advertised = {*re.findall(r"--profile (\w+)", HEADER)}
    assert advertised <= {profile for service in SERVICES.values() for profile in service.get("profiles", ())}
    (default,) = re.findall(r'^CMD \["(\w+)"', DOCKERFILE, re.MULTILINE)
    for service in SERVICES.values():
        starts = not service.get("profiles") or advertised & {*service["profiles"]}
        if starts and service["image"].startswith("askonce:"):
            assert service.get("command", [default])[0] in main.commands


@every_service
def test_what_has_no_command_yet_does_not_restart(name: str) -> None:
    """A service of our image whose command does not exist ends once, instead of again and again."""
    service = SERVICES[name]
    if service["image"].startswith("askonce:") and service.get("command", ["serve"])[0] not in main.commands:
        assert service["restart"] == "no"


@every_service
def test_settings_exist(name: str) -> None:
    """The gateway knows each `ASKONCE_*` variable."""
    environment = SERVICES[name].get("environment", {})
    assert [variable for variable in environment if not is_setting(variable)] == []


def test_settings_of_the_image_exist() -> None:
    """So it does those of the Dockerfile."""
    assert [variable for variable in re.findall(r"ASKONCE_\w+", DOCKERFILE) if not is_setting(variable)] == []


def is_setting(variable: str) -> bool:
    """Tell whether a variable is the gateway's own and known, or none of its."""
    name = variable.removeprefix(PREFIX).lower()
    return not variable.startswith(PREFIX) or name == "config_file" or name in Config.__struct_fields__


def test_the_settings_file_is_valid() -> None:
    """askonce.toml holds only known fields, and its backends are services of the stack."""
    values = tomllib.loads((ROOT / "deploy" / "askonce.toml").read_text())
    config = msgspec.convert(values, Config)
    hosts = {backend.url.split("//")[1].split(":")[0] for backend in config.backends}
    assert hosts <= set(SERVICES)


@every_service
def test_health_is_watched(name: str) -> None:
    """A service says how its health is asked; one that ends by itself has none to ask."""
    check = SERVICES[name]["healthcheck"]
    assert "test" in check or (check == {"disable": True} and SERVICES[name]["restart"] == "no")


@every_service
def test_dependencies_wait_for_health(name: str) -> None:
    """A service that is waited for exists, and is healthy or has ended well."""
    for other, how in SERVICES[name].get("depends_on", {}).items():
        ends = SERVICES[other]["restart"] == "no"
        assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy")


@every_service
def test_images_are_pinned(name: str) -> None:
    """An image names a version."""
    _, _, tag = SERVICES[name]["image"].rpartition(":")
    assert re.search(r"\d+\.\d+", tag), tag


@every_service
def test_volumes_exist(name: str) -> None:
    """A volume is declared below, or a file of this repository."""
    sources = [volume.split(":")[0] for volume in SERVICES[name].get("volumes", ())]
    assert all(
        (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"] for source in sources
    )


def test_every_volume_is_used() -> None:
    """Nothing is declared for nobody."""
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert set(COMPOSE["volumes"]) <= used


def test_only_the_gateway_is_reachable_and_only_from_here() -> None:
    """No port is open to the network."""
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "gateway": ["127.0.0.1:8080:8080"]
    }


def test_the_image_holds_what_the_wheel_holds() -> None:
    """Each package of the wheel is copied, and not ignored."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for package in packages:
        assert f"COPY {package} {package}\n" in DOCKERFILE
        assert f"!{package}" in ignored
    assert "\nUSER askonce\n" in DOCKERFILE


def test_the_data_folder_of_the_image_is_empty() -> None:
    """A home made by useradd holds copies of /etc/skel, and a folder with strange files is refused."""
    assert "--create-home" not in DOCKERFILE
    assert "install -d -o askonce -g askonce -m 700 /data" in DOCKERFILE
