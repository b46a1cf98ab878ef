"""`python -m curate` is the command `curate`, which begins here too."""

from curate.base.exits import from_the_start


def main() -> None:
    """Run a command. Ctrl-C has its message from here on, also while the imports take their time."""
    from_the_start()

    import curate.base.threads  # noqa: F401  (before torch)
    from curate.cli import main as run

    run()


if __name__ == "__main__":
    main()
