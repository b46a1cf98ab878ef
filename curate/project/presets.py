"""The presets by name: complete params files that the package carries."""

from __future__ import annotations

from typing import NamedTuple

from curate.base.errors import UsageError
from curate.project import params, shipped

DEFAULT = "default"
_MACHINE = "Machine: "


class Preset(NamedTuple):
    name: str
    text: str  # the params file

    @property
    def heading(self) -> list[str]:
        """The comment that the file opens with, without its signs: what it is, `Machine: ...`, more."""
        lines = []
        for line in self.text.splitlines():
            if line.strip() in ("", "#") or not line.startswith("#"):
                break
            lines.append(line.removeprefix("#").strip())
        return lines

    @property
    def what(self) -> str:
        return self.heading[0]

    @property
    def machine(self) -> str:
        """What it takes to run it."""
        return next(line.removeprefix(_MACHINE) for line in self.heading if line.startswith(_MACHINE))


def presets() -> dict[str, Preset]:
    """Name -> preset: the defaults, then every file of presets/."""
    default = (
        "# B-DPO and DPO on the embedded sample and the model trained for it.\n"
        f"# {_MACHINE}two cores, minutes, no downloads.\n#\n{params.to_yaml(params.Params())}"
    )
    found = {path.stem: path.read_text(encoding="utf-8") for path in (shipped.ROOT / "presets").glob("*.yaml")}
    return {DEFAULT: Preset(DEFAULT, default)} | {name: Preset(name, found[name]) for name in sorted(found)}


def preset(name: str) -> Preset:
    """The preset called `name`.

    Raises:
        UsageError: there is none.
    """
    known = presets()
    if name not in known:
        raise UsageError("no such preset", found=name, expected=", ".join(known), remedy="`curate presets` lists them")
    return known[name]
