"""Saved recipes: those of a folder before those that ship, as they are at this moment."""

import os
from pathlib import Path

import pytest

from extractors.book import Book, UnknownRecipe, opened
from extractors.errors import RecipeError
from extractors.recipe import Recipe, shipped

DRUGS = 'description = "Extract drugs."\n[classes.drug]\n'


def saved(folder: Path, name: str, text: str = DRUGS) -> Path:
    """One, in a file that is exchanged as editors do it."""
    new = folder / "new"
    new.write_text(text, "utf-8")
    return new.replace(folder / f"{name}.toml")


def wrong(book: Book, name: str) -> str:
    """What is wrong with it, said in both ways."""
    with pytest.raises(RecipeError) as caught:
        book.get(name)
    assert str(book.all()[name]) == str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("folder", [None, Path("nowhere"), Path(__file__)])
def test_without_a_folder_there_are_those_that_ship(folder: Path | None) -> None:
    """A folder that is not there yet is no mistake."""
    book = Book(folder)
    assert book.all() == shipped()
    assert book.get("invoices") == shipped()["invoices"]
    assert book.file("invoices") is None


def test_a_file_comes_before_one_that_ships(tmp_path: Path) -> None:
    """Of the same name; others are beside them, in order."""
    saved(tmp_path, "clinic-notes")
    saved(tmp_path, "drugs")
    book = Book(tmp_path)
    assert list(book.all()) == ["clinic-notes", "contracts", "drugs", "invoices"]
    assert book.get("clinic-notes").description == book.get("drugs").description == "Extract drugs."
    assert book.file("drugs") == tmp_path / "drugs.toml"


def test_what_is_edited_counts_at_once(tmp_path: Path) -> None:
    """Also when it is deleted, and when it is no longer valid and then is again; the same file is the same recipe."""
    book = Book(tmp_path)
    saved(tmp_path, "contracts")
    first = book.get("contracts")
    assert book.get("contracts") is first
    saved(tmp_path, "contracts", DRUGS.replace("drugs", "pills"))
    assert book.get("contracts").description == "Extract pills."
    saved(tmp_path, "contracts", "description = ")
    assert "not TOML" in wrong(book, "contracts")
    saved(tmp_path, "contracts")
    assert book.get("contracts") == first
    (tmp_path / "contracts.toml").unlink()
    assert book.get("contracts") == shipped()["contracts"]


def test_a_file_that_is_written_over_counts_at_once(tmp_path: Path) -> None:
    """With as many bytes, in the same file."""
    path = saved(tmp_path, "drugs")
    book = Book(tmp_path)
    assert book.get("drugs").version == 1
    path.write_text(DRUGS.replace("drugs", "pills"), "utf-8")
    os.utime(path, ns=(0, 1))
    assert book.get("drugs").description == "Extract pills."


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("clinic", "Did you mean clinic-notes?"),
        ("drug", "Did you mean drugs?"),
        ("xyzzy", "There are: clinic-notes, contracts, drugs, invoices."),
        ("", "There are: "),
        ("../drugs", "There is no recipe '../drugs'"),
        ("drugs.toml", "There is no recipe 'drugs.toml'"),
        ("drugs\0", "There is no recipe"),
        ("d" * 9999, "There is no recipe 'ddd"),
    ],
)
def test_one_that_is_not_there_names_those_that_are(tmp_path: Path, name: str, said: str) -> None:
    """Similar ones, if there are any. A name is never a path."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    saved(folder, "drugs")
    saved(tmp_path, "drugs")
    with pytest.raises(UnknownRecipe) as caught:
        Book(folder).get(name)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_file_that_is_not_valid_is_named(tmp_path: Path) -> None:
    """With what is wrong and where; others are there nevertheless, and none that ships takes its place."""
    book = Book(tmp_path)
    saved(tmp_path, "drugs", DRUGS + 'dose = { type = "number", multipleOf = 5 }\n')
    assert wrong(book, "drugs").startswith("drugs.toml: 'multipleOf' is not something")
    found = book.all()["drugs"]
    assert isinstance(found, RecipeError)
    assert found.where == "classes.drug.dose"
    saved(tmp_path, "invoices", 'name = "bills"\n' + DRUGS)
    assert wrong(book, "invoices").startswith("invoices.toml: It calls itself 'bills'")
    (tmp_path / "latin.toml").write_bytes('description = "Größe"'.encode("latin-1"))
    assert wrong(book, "latin") == "latin.toml: It is not UTF-8."
    (tmp_path / "folder.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "link.toml").symlink_to("nowhere")
    (tmp_path / "large.toml").write_bytes(b"#" * 2**21)
    for name in ("folder", "pipe", "large"):
        assert wrong(book, name) == f"{name}.toml: It is not a file of at most 1048576 bytes."
    assert wrong(book, "link") == "link.toml: It cannot be read: No such file or directory."
    assert isinstance(book.all()["contracts"], Recipe)


def test_a_file_is_called_as_a_recipe_can_be(tmp_path: Path) -> None:
    """Or it is told; what editors leave behind is no recipe."""
    saved(tmp_path, "My drugs")
    saved(tmp_path, ".drugs")
    saved(tmp_path, "drugs")
    (tmp_path / "drugs.toml~").write_text("")
    book = Book(tmp_path)
    assert sorted(book.all().keys() - shipped().keys()) == ["My drugs", "drugs"]
    assert "My drugs.toml: 'My drugs' is no name" in str(book.all()["My drugs"])
    with pytest.raises(UnknownRecipe):
        book.get("My drugs")


def test_a_file_anywhere_can_be_opened(tmp_path: Path) -> None:
    """By the same rules."""
    assert opened(saved(tmp_path, "drugs")).name == "drugs"
    with pytest.raises(RecipeError, match=r"none\.toml: It cannot be read"):
        opened(tmp_path / "none.toml")
