"""`python -m curate.installed`, as the dvc.yaml that `curate init` writes calls it."""

from curate.project.installed import main

if __name__ == "__main__":
    main()
