"""What `/schema` says beyond what it finds in handlers: the key, and what stands behind the question mark."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from litestar.openapi.spec import Components, OpenAPIType, Operation, Parameter, Schema, SecurityScheme

COMPONENTS: Final = Components(
    security_schemes={
        "bearer": SecurityScheme(type="http", scheme="bearer", description="A key of `askonce keys create`."),
        "x-api-key": SecurityScheme(type="apiKey", name="x-api-key", security_scheme_in="header"),
    }
)
WITH_KEY: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"x-api-key": []}]
FOR_ALL: Final[list[dict[str, list[str]]]] = [{}]


def asking(**described: str) -> type[Operation]:
    """An operation with these optional query parameters. Handlers read and check them themselves (`reading.query`)."""
    found = [_parameter(name, description) for name, description in described.items()]

    @dataclass
    class Asking(Operation):
        def __post_init__(self) -> None:
            self.parameters = [*(self.parameters or ()), *found]

    return Asking


def _parameter(name: str, description: str) -> Parameter:
    kinds: Mapping[str, dict[str, Any]] = {
        "last": {"type": OpenAPIType.INTEGER, "minimum": 1},
        "sample": {"type": OpenAPIType.INTEGER, "minimum": 1},
        "all": {"type": OpenAPIType.STRING, "enum": ["true"]},
        "limit": {"type": OpenAPIType.INTEGER, "minimum": 1},
        "order": {"type": OpenAPIType.STRING, "enum": ["asc", "desc"]},
        "stream": {"type": OpenAPIType.BOOLEAN},
        "starting_after": {"type": OpenAPIType.INTEGER, "minimum": 0},
        "include_obfuscation": {"type": OpenAPIType.BOOLEAN},
    }
    schema = Schema(**kinds.get(name, {"type": OpenAPIType.STRING}))
    return Parameter(name=name, param_in="query", description=description, required=False, schema=schema)
