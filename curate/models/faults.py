"""Loading what others saved: whatever a library makes of a broken folder is one error, which names the folder.

transformers, tokenizers, safetensors and peft raise all kinds: OSError, ValueError, KeyError, TypeError,
SafetensorError, a validation error of a config's dataclass, plain Exception from Rust.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from curate.base import memory
from curate.base.errors import CurateError, InputError, few, first_line


@contextmanager
def fitting(
    folder: str | Path | None, what: str = "the model", remedy: str = "use dtype bfloat16 or a larger device"
) -> Iterator[None]:
    """What does not fit the device's memory in the block as `InputError`."""
    try:
        yield
    except Exception as error:
        if not memory.no_room(error):
            raise
        raise InputError(
            f"{what} does not fit the device's memory", file=folder, found=first_line(error), remedy=remedy
        ) from error


@contextmanager
def loading(what: str, folder: str | Path) -> Iterator[None]:
    """Failures of the block as `InputError`: cannot load the `what`, or it does not fit the device."""
    try:
        with fitting(folder):
            yield
    except (CurateError, MemoryError):
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"cannot load the {what}", file=folder, found=found) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Rust's, of a library's own
            raise
        raise InputError(f"cannot load the {what}", file=folder, found="the library panicked") from None


def check_digest(what: str, file: Path, found: str, expected: str, *, remedy: str) -> None:
    """Raise `InputError` where a digest is not the one that was recorded."""
    if found != expected:
        raise InputError(what, file=file, found=f"digest {found}", expected=f"digest {expected}", remedy=remedy)


def check_whole(what: str, folder: str | Path, lacking: Iterable[str], *, expected: str, remedy: str) -> None:
    """Refuse weights that lack parts, which a library fills with random numbers.

    Args:
        lacking: names of the parts.

    Raises:
        InputError: there is one.
    """
    if names := sorted(map(str, lacking)):
        raise InputError(
            f"the weights lack a part of the {what}, which would be random",
            file=folder,
            field=few(names),
            expected=expected,
            remedy=remedy,
        )
