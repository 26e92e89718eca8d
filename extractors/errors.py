"""What is wrong with a recipe."""


class RecipeError(ValueError):
    """A recipe is not valid. `where`: the place in it, as `classes.medication.dosage`; empty for all of it."""

    def __init__(self, message: str, where: str) -> None:
        super().__init__(message)
        self.where = where

    @property
    def sentence(self) -> str:
        """What is wrong, and where."""
        return f"{self} It is in {self.where}." if self.where else str(self)
