"""One worker of `askonce serve`, as its parent starts it."""

import click


@click.command()
@click.option("--fd", type=int, required=True)
def main(fd: int) -> None:
    """Serve on the socket `fd` once the parent has said with which settings."""
    # Processes that this one starts for heavy work import this file, and are to have nothing of it.
    from gateway import serving  # noqa: PLC0415

    serving.run(fd)


if __name__ == "__main__":
    main()
