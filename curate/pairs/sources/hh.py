"""HH-RLHF: two full transcripts that share everything but their last reply (METHOD 5)."""

from __future__ import annotations

import re

from curate.pairs.sources.base import (
    Malformed,
    Message,
    Parsed,
    Record,
    Refused,
    assistant,
    has,
    ratings,
    shared_start,
    text,
)

MARKER = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}
LAST = "\n\nAssistant:"


class Hh:
    """The prompt is everything up to the last shared "\\n\\nAssistant:"; what follows are the responses.

    A response that holds a further turn means that the transcripts part before their last turn: the two
    replies then answer different things, and the row is refused as `diverging_transcript`. Every turn is
    stripped of the white space around it, which belongs to the transcript's layout.
    Columns of `curate.pairs.schema.RATINGS` are taken over.
    """

    name = "hh"
    about = "HH-RLHF: chosen, rejected as transcripts of \\n\\nHuman: and \\n\\nAssistant: turns"
    detected = True

    def fits(self, record: Record) -> bool:
        return (
            has(record, "chosen", "rejected")
            and "prompt" not in record
            and all(isinstance(record[name], str) for name in ("chosen", "rejected"))
            and any(record[name].lstrip().startswith(("Human:", "Assistant:")) for name in ("chosen", "rejected"))
        )

    def parse(self, record: Record) -> Parsed:
        chosen, rejected = (_transcript(record, name) for name in ("chosen", "rejected"))
        cut = chosen.rfind(LAST, 0, shared_start(chosen, rejected))
        if cut < 0:
            raise Refused("diverging_transcript", "the transcripts share no turn of the assistant")
        preferred, other = chosen[cut + len(LAST) :], rejected[cut + len(LAST) :]
        if MARKER.search(preferred) or MARKER.search(other):
            raise Refused("diverging_transcript", "the transcripts part before their last turn")
        replies = [assistant(preferred.strip())], [assistant(other.strip())]
        return Parsed(_turns(chosen[:cut]), *replies, ratings=ratings(record))


def _transcript(record: Record, name: str) -> str:
    transcript = "\n\n" + text(record, name).lstrip()
    if not MARKER.match(transcript):
        raise Malformed(name, "text without a turn at its start", 'a transcript that starts with "Human:"')
    return transcript


def _turns(transcript: str) -> list[Message]:
    parts = MARKER.split(transcript)[1:]
    return [
        {"role": ROLES[who], "content": content.strip()} for who, content in zip(parts[::2], parts[1::2], strict=True)
    ]
