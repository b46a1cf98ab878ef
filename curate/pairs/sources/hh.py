"""HH-RLHF: two full transcripts that share everything but their last reply."""

from __future__ import annotations

from curate.pairs.sources.base import Malformed, Parsed, Record, Refused, assistant, shared_start, text
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.replies import BESIDE, finished
from curate.pairs.sources.turns import MARKER, transcript

LAST = "\n\nAssistant:"


def parse(record: Record) -> Parsed:
    """The prompt is everything up to the last shared "\\n\\nAssistant:"; what follows are the responses.

    A response that holds a further turn means that the transcripts part before their last turn: the two
    replies then answer different things, and the row is refused as `diverging_transcript`. Every turn is
    stripped of the white space around it, which belongs to the transcript's layout.
    """
    chosen, rejected = (_transcript(record, name) for name in ("chosen", "rejected"))
    cut = chosen.rfind(LAST, 0, shared_start(chosen, rejected))
    if cut < 0:
        raise Refused("diverging_transcript", "the transcripts share no turn of the assistant")
    preferred, other = chosen[cut + len(LAST) :], rejected[cut + len(LAST) :]
    if MARKER.search(preferred) or MARKER.search(other):
        raise Refused("diverging_transcript", "the transcripts part before their last turn")
    replies = [assistant(preferred.strip())], [assistant(other.strip())]
    return finished(record, transcript(chosen[:cut]), *replies, "chosen", "rejected")


def _transcript(record: Record, name: str) -> str:
    said = "\n\n" + text(record, name).lstrip()
    if not MARKER.match(said):
        raise Malformed(name, "text without a turn at its start", 'a transcript that starts with "Human:"')
    return said


def _looks(record: Record) -> bool:
    sides = record["chosen"], record["rejected"]
    return (
        "prompt" not in record
        and all(isinstance(side, str) for side in sides)
        and any(side.lstrip().startswith(("Human:", "Assistant:")) for side in sides)
    )


FORMAT = Format(
    "hh",
    "HH-RLHF: chosen, rejected as transcripts of \\n\\nHuman: and \\n\\nAssistant: turns",
    fields("chosen rejected"),
    parse,
    reads=BESIDE,
    looks=_looks,
    card="https://huggingface.co/datasets/Anthropic/hh-rlhf",
)
