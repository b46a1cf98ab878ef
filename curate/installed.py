"""`python -m curate.installed`, as the dvc.yaml that `curate init` writes calls it."""

from curate.base.exits import from_the_start


def main() -> None:
    """Write the folder of digests, here."""
    from_the_start()

    from curate.project.installed import main as run

    run()


if __name__ == "__main__":
    main()
