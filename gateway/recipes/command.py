"""The commands: list, show, test and new."""

import sys
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import click
import msgspec

from extractors.book import Book, UnknownRecipe, opened
from extractors.errors import RecipeError
from extractors.recipe import Recipe, check_name, shipped, shipped_texts
from gateway import config as settings
from gateway.client import Gateway, RefusedError, UnansweredError
from gateway.config import Config, ConfigError
from gateway.printing import plain_json, printable
from gateway.recipes import page, trial
from gateway.recipes.clashes import clashes
from gateway.recipes.trial import Trial

_HEADS = ("NAME", "EDITION", "CLASSES", "FROM", "TITLE")

_config = click.option(
    "--config", "file", type=click.Path(path_type=Path), default=settings.config_file, help="A settings file (TOML)."
)
_data_dir = click.option("--data-dir", type=click.Path(path_type=Path), help="Where everything embedded lives.")


class _Group(click.Group):
    """Commands that say what is wrong with a recipe, with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RecipeError as error:
            raise click.ClickException(_wrong(error)) from error


@click.group(cls=_Group)
def recipes() -> None:
    """List, show, test and begin recipes: what is to be extracted from texts."""


@recipes.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_data_dir
@_config
def list_(data_dir: Path | None, file: Path | None, *, as_json: bool) -> None:
    """Show every recipe, what is wrong with those that are not valid, and which views have the same name.

    The status is 1 when there is one that is not valid.
    """
    book = _book(file, data_dir)
    found = book.all()
    said = clashes(_valid(found))
    told = {
        name: _broken(one) if isinstance(one, RecipeError) else _listed(one, said.get(name, []))
        for name, one in found.items()
    }
    rows = [{"name": name, "from": _source(book, name)} | one for name, one in told.items()]
    click.echo(plain_json(rows, indent=2) if as_json else "\n".join(map(printable, _rows(rows))))
    sys.exit(1 if any(isinstance(one, RecipeError) for one in found.values()) else 0)


@recipes.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON Schema of what a model answers.")
@click.option("--prompt", "as_prompt", is_flag=True, help="Print what a model is told.")
@_data_dir
@_config
def show(name: str, data_dir: Path | None, file: Path | None, *, as_json: bool, as_prompt: bool) -> None:
    """Show the recipe NAME: what it tells a model, its classes, and its examples."""
    if as_json and as_prompt:
        raise click.UsageError("--json and --prompt are two things; say one of them.")
    book = _book(file, data_dir)
    recipe = _got(book, name)
    if as_json:
        click.echo(plain_json(recipe.schema, indent=2))
    elif as_prompt:
        from extractors.framing import frame  # noqa: PLC0415 -- it imports LangExtract, which takes a second

        click.echo(page.lines(frame(recipe).prompt("…")))
    else:
        page.show(recipe, _source(book, name))


@recipes.command()
@click.argument("name")
@_data_dir
@_config
def new(name: str, data_dir: Path | None, file: Path | None) -> None:
    """Begin the recipe NAME: a file with comments to fill in, or a copy of the recipe of this name that ships."""
    check_name(name, "")
    path = settings.load(file, {"data_dir": data_dir}).recipes_folder() / f"{name}.toml"
    starting = resources.files("gateway").joinpath("recipes/starting.toml").read_text("utf-8")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as new_file:
            new_file.write(shipped_texts().get(name, starting))
    except FileExistsError as error:
        message = f"There is a file {path} already; it stays as it is."
        raise click.ClickException(message) from error
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}."
        raise click.ClickException(message) from error
    click.echo(f"Wrote {path}\nEdit it, and see what comes of it with 'askonce recipes test {name}'.")


@recipes.command()
@click.argument("recipe", metavar="NAME|FILE")
@click.option("--model", help="Who is asked (default: the only model there is).")
@click.option("--url", help="A running askonce (default: the configured host and port).")
@click.option("--api-key", help="The key to ask with (default: the configured admin_key).")
@click.option(
    "--least", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="The strict F1 that is enough."
)
@click.option("--offline", is_flag=True, help="Only check the recipe; ask nobody.")
@_data_dir
@_config
def test(recipe: str, **options: Any) -> None:
    """Check a recipe, and have a running askonce extract each of its examples with the others as examples.

    The status is 0 when every record was found where it should be and nothing else was, or as much of that as --least
    says; 1 when not, or when the recipe is not valid; and 2 when nobody could be asked.
    """
    try:
        config = settings.load(options["file"], {"data_dir": options["data_dir"]})
    except ConfigError as error:
        raise UnansweredError(str(error)) from error
    is_file = recipe.endswith(".toml") or "/" in recipe
    book = Book(config.recipes_folder())
    found = opened(Path(recipe)) if is_file else _got(book, recipe)
    remarks = [*trial.remarks(found), *_clashes(book, found)]
    _say(f"{found.name} {found.edition} is valid: {_count(found)}.", *(f"! {one}" for one in remarks))
    if options["offline"]:
        return
    if not found.examples:
        raise UnansweredError("It has no example to ask about.")
    trials = _trials(found, config, options)
    _say("", *trial.table(trials))
    if not any(one.was_asked for one in trials):
        raise UnansweredError("Nobody answered; the log of askonce says more.")
    asked_all = all(one.was_asked for one in trials)
    sys.exit(0 if asked_all and trial.total(trials).strict.f1 >= options["least"] else 1)


def _trials(recipe: Recipe, config: Config, options: dict[str, Any]) -> list[Trial]:
    key = options["api_key"] or config.admin_key
    with Gateway(options["url"] or settings.local_url(config.host, config.port), key) as gateway:
        try:
            model = options["model"] or _only(gateway.models())
            how = "each example with the others" if len(recipe.examples) > 1 else "its only example with itself"
            _say(f"{model} is asked about {how} as examples.")
            asked = [(one, gateway.extract(trial.request(recipe, one, model))) for one in recipe.examples]
            return [trial.tried(example, reply) for example, reply in asked]
        except RefusedError as refused:
            raise UnansweredError(printable(str(refused))) from refused
        except msgspec.ValidationError as error:
            message = f"The reply is not one of this version of askonce: {printable(str(error))}."
            raise UnansweredError(message) from error


def _only(models: list[str]) -> str:
    if len(models) == 1:
        return models[0]
    message = f"Say with --model who is asked: {', '.join(models)}." if models else "There is no model to ask."
    raise UnansweredError(printable(message))


def _book(file: Path | None, data_dir: Path | None) -> Book:
    return Book(settings.load(file, {"data_dir": data_dir}).recipes_folder())


def _got(book: Book, name: str) -> Recipe:
    try:
        return book.get(name)
    except UnknownRecipe as error:
        raise click.BadParameter(printable(str(error)), param_hint="NAME") from error


def _source(book: Book, name: str) -> str:
    file = book.file(name)
    return "shipped" if file is None else str(file)


def _valid(found: Mapping[str, Recipe | RecipeError]) -> dict[str, Recipe]:
    return {name: one for name, one in found.items() if isinstance(one, Recipe)}


def _clashes(book: Book, recipe: Recipe) -> list[str]:
    """What there is to say of it beside the others that are saved."""
    try:
        others = book.all()
    except RecipeError:  # without a folder that can be read, it is only beside those that ship
        others = shipped()
    return clashes(_valid(others) | {recipe.name: recipe}).get(recipe.name, [])


def _listed(recipe: Recipe, said: list[str]) -> dict[str, Any]:
    classes = list(recipe.classes)
    return {"edition": recipe.edition, "title": recipe.title, "classes": classes, "clashes": said, "error": None}


def _broken(error: RecipeError) -> dict[str, Any]:
    told = {"message": str(error), "where": error.where}
    return {"edition": None, "title": "", "classes": [], "clashes": [], "error": told}


def _rows(recipes: list[dict[str, Any]]) -> list[str]:
    """A line for each, below the names of the columns; more for those of which there is something to say."""
    rows = [_HEADS, *map(_row, recipes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    heads, *lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return [heads, *(told for line, one in zip(lines, recipes, strict=True) for told in (line, *_remarks(one)))]


def _remarks(one: dict[str, Any]) -> Iterator[str]:
    if one["error"]:
        yield f"    {_sentence(one['error']['message'], one['error']['where'])}"
    yield from (f"    ! {clash}" for clash in one["clashes"])


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    return one["name"], one["edition"] or "not valid", ", ".join(one["classes"]), one["from"], one["title"]


def _wrong(error: RecipeError) -> str:
    return printable(error.sentence)


def _sentence(message: str, where: str) -> str:
    return f"{message} It is in {where}." if where else message


def _count(recipe: Recipe) -> str:
    counts = ((len(recipe.classes), "class", "classes"), (len(recipe.examples), "example", "examples"))
    return ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in counts)


def _say(*lines: str) -> None:
    click.echo("\n".join(map(printable, lines)))
