"""What the package carries besides its code: dvc.yaml, stages/, presets/, configs/, plot templates.

A checkout has them at its top. A wheel has a copy of each in curate/_project, which pyproject.toml lists.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
ROOT = PACKAGE / "_project" if (PACKAGE / "_project").is_dir() else PACKAGE.parent
"""The folder that has dvc.yaml and the others, by the names they have in the repository."""
