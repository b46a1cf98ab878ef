"""Seeded synthetic safety pairs, as PKU-SafeRLHF publishes its own. [ours]

What a response has to do with its query is known: generic ones fit every query of either type, specific ones
name the topic, its things and the query's remark, and a few answer another query altogether. So mutual
information has something to find, of either sign and for both query types.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from curate.sample import phrases
from curate.sample.topics import SAFE, UNSAFE, Topic

Record = dict[str, Any]

FAULTS = {
    "duplicate": 0.01,
    "contradiction": 0.006,
    "identical_responses": 0.006,
    "empty_response": 0.006,
    "both_unsafe": 0.006,
}
"""Shares of the rows that have a fault of real files, by the cleaning rule that finds it."""


class Kind(NamedTuple):
    """Which phrases a response is made of, and how it is rated, noise apart."""

    phrases: tuple[str, ...]
    reward: float  # helpfulness
    cost: float  # harmfulness as the answer to an unsafe query; to a safe one, SAFE_COST
    other_topic: bool = False  # it answers another query of the same type


SAFE_COST = -1.0  # as of published cost models, below zero is safe
RATING_NOISE = 0.4  # standard deviation

GENERIC_REFUSAL = Kind(phrases.GENERIC_REFUSALS, -1.0, -1.5)
SPECIFIC_REFUSAL = Kind(phrases.SPECIFIC_REFUSALS, 0.0, -1.0)
OVER_REFUSAL = Kind(phrases.OVER_REFUSALS, -0.5, SAFE_COST)
GENERIC_COMPLIANCE = Kind(phrases.GENERIC_COMPLIANCES, 0.5, 0.5)
UNSAFE_COMPLIANCE = Kind(phrases.UNSAFE_COMPLIANCES, 1.5, 1.5)
SAFE_COMPLIANCE = Kind(phrases.SAFE_COMPLIANCES, 1.5, SAFE_COST)
OFF_TOPIC = Kind(phrases.SAFE_COMPLIANCES, -1.0, SAFE_COST, other_topic=True)

Mix = tuple[tuple[Kind, float], ...]
UNSAFE_CHOSEN: Mix = ((GENERIC_REFUSAL, 0.5), (SPECIFIC_REFUSAL, 0.5))
UNSAFE_REJECTED: Mix = ((GENERIC_COMPLIANCE, 0.5), (UNSAFE_COMPLIANCE, 0.5))
SAFE_CHOSEN: Mix = ((GENERIC_COMPLIANCE, 0.45), (SAFE_COMPLIANCE, 0.55))
SAFE_REJECTED: Mix = (
    (GENERIC_REFUSAL, 0.25),
    (OVER_REFUSAL, 0.3),
    (GENERIC_COMPLIANCE, 0.1),
    (SAFE_COMPLIANCE, 0.25),
    (OFF_TOPIC, 0.1),
)


class Query(NamedTuple):
    safe: bool
    topic: Topic
    aside: str  # how a specific response takes up the query's remark; "" where there is none
    text: str


class Response(NamedTuple):
    text: str
    kind: Kind


def sample_records(count: int, seed: int) -> list[Record]:
    """`count` rows in PKU-SafeRLHF's native schema (the fields that matter), some faulty as `FAULTS` says.

    About half of the queries are unsafe. Besides PKU's fields each response has a reward and a cost, as rating
    models would give them. The same arguments give the same rows.
    """
    rng = random.Random(f"records {seed}")
    faults = {name: int(count * share) for name, share in FAULTS.items()}
    records = [_record(rng) for _ in range(count - sum(faults.values()))]
    records += _faulty(records, faults, rng)
    rng.shuffle(records)
    return records


def sample_dialogues(count: int, seed: int) -> list[tuple[str, str]]:
    """`count` more (prompt, response) texts of the same kinds, drawn apart from the records: reading matter.

    A prompt may happen to equal a record's; whoever holds records out has to drop it.
    """
    rng = random.Random(f"dialogues {seed}")
    dialogues = []
    for _ in range(count):
        query, chosen, rejected = _pair(rng)
        dialogues.append((query.text, rng.choice((chosen, rejected)).text))
    return dialogues


def _record(rng: random.Random) -> Record:
    query, chosen, rejected = _pair(rng)
    chosen_id = rng.randrange(2)
    # Helpfulness may favour the unsafe response, as in the real data.
    better_id = chosen_id if query.safe else rng.randrange(2)
    responses = (rejected, chosen) if chosen_id else (chosen, rejected)
    rated = {
        f"response_{i}_{name}": value
        for i, response in enumerate(responses)
        for name, value in zip(("reward", "cost"), _ratings(query, response), strict=True)
    }
    return {
        "prompt": query.text,
        "response_0": responses[0].text,
        "response_1": responses[1].text,
        "is_response_0_safe": query.safe or chosen_id == 0,
        "is_response_1_safe": query.safe or chosen_id == 1,
        "better_response_id": better_id,
        "safer_response_id": chosen_id,
        "prompt_source": "curate.sample",
        **rated,
    }


def _ratings(query: Query, response: Response) -> tuple[float, float]:
    """Reward and cost of a response: those of its kind, and noise that query and response alone decide.

    So equal responses to a query are rated alike, and the draws that make the texts are left as they are.
    """
    noise = random.Random(f"ratings {query.text} | {response.text}")
    cost = SAFE_COST if query.safe else response.kind.cost
    reward, cost = (round(mean + noise.gauss(0, RATING_NOISE), 4) for mean in (response.kind.reward, cost))
    return reward, cost


def _pair(rng: random.Random) -> tuple[Query, Response, Response]:
    """A query, its chosen and its rejected response, whose texts differ."""
    query = _query(rng, safe=rng.random() < 0.5)
    chosen = _response(query, SAFE_CHOSEN if query.safe else UNSAFE_CHOSEN, rng)
    others = SAFE_REJECTED if query.safe else UNSAFE_REJECTED
    while (rejected := _response(query, others, rng)).text == chosen.text:
        pass
    return query, chosen, rejected


def sample_queries(count: int, seed: int) -> Iterator[Query]:
    """`count` distinct unsafe and as many safe queries that occur in no pair and no dialogue, whatever their number.

    Each names a person of `phrases.SUITE_NAMES`, whom no pair names.
    """
    rng = random.Random(f"queries {seed}")
    remarks = tuple(remark for remark in phrases.REMARKS if "{name}" in remark[0])
    for safe in (False, True):
        found: dict[str, Query] = {}
        while len(found) < count:
            query = _query(rng, safe=safe, names=phrases.SUITE_NAMES, remarks=remarks)
            found[query.text] = query
        yield from found.values()


def sample_behaviours(count: int, seed: int) -> list[Record]:
    """The first `count` unsafe queries of `sample_queries`, as published files of harmful behaviours have them.

    `goal` is the query, `response` a specific answer that complies, and `target` how such an answer begins. A behaviour
    is the same whatever their number.
    """
    behaviours = []
    for query in itertools.islice(sample_queries(count, seed), count):
        answer = _response(query, ((UNSAFE_COMPLIANCE, 1.0),), random.Random(f"behaviour {seed} {query.text}"))
        target = phrases.UNSAFE_COMPLIANCES[0].partition(":")[0].format(action=query.topic.action)
        behaviours.append({"goal": query.text, "target": target, "response": answer.text})
    return behaviours


def _query(
    rng: random.Random,
    *,
    safe: bool,
    names: tuple[str, ...] = phrases.NAMES,
    remarks: tuple[tuple[str, str], ...] = phrases.REMARKS,
) -> Query:
    topic = rng.choice(SAFE if safe else UNSAFE)
    name = rng.choice(names)
    remark, aside = (part.format(name=name) for part in rng.choice(remarks))
    question = rng.choice(phrases.QUESTIONS).format(action=topic.action)
    # The remark comes first or last.
    text = " ".join(part for part in rng.sample((question, remark), 2) if part)
    return Query(safe, topic, aside, text)


def _response(query: Query, mix: Mix, rng: random.Random) -> Response:
    (kind,) = rng.choices([kind for kind, _ in mix], [weight for _, weight in mix])
    if kind.other_topic:
        query = _query(rng, safe=query.safe)
    topic = query.topic
    # The things come in any order, so that a topic has more than one answer in the same words.
    first, second, third = rng.sample(topic.things, 3)
    text = rng.choice(kind.phrases).format(
        action=topic.action, first=first, second=second, third=third, instead=topic.instead, Aside=query.aside
    )
    return Response(_capitalised(text), kind)


def _capitalised(text: str) -> str:
    """Upper case where a sentence begins, which an absent remark may leave small."""
    text = text[:1].upper() + text[1:]
    for mark in (". ", "! "):
        text = mark.join(part[:1].upper() + part[1:] for part in text.split(mark))
    return text


def _faulty(records: list[Record], faults: dict[str, int], rng: random.Random) -> Iterator[Record]:
    """Faulty rows made of distinct sound ones."""
    bases = iter(rng.sample(records, sum(faults.values())))
    for name, number in faults.items():
        for _ in range(number):
            yield _spoiled(next(bases), name, rng)


def _spoiled(record: Record, fault: str, rng: random.Random) -> Record:
    match fault:
        case "duplicate":
            return dict(record)
        case "contradiction":
            # A safe query's labels are equal, so that exchanging them changes the preference alone.
            return record | {
                "is_response_0_safe": record["is_response_1_safe"],
                "is_response_1_safe": record["is_response_0_safe"],
                "better_response_id": 1 - record["better_response_id"],
                "safer_response_id": 1 - record["safer_response_id"],
            }
        case "identical_responses":
            first = ("response_0", "response_0_reward", "response_0_cost")
            return record | {name.replace("0", "1"): record[name] for name in first}
        case "empty_response":
            return record | {f"response_{rng.randrange(2)}": ""}
        case "both_unsafe":
            return record | {"is_response_0_safe": False, "is_response_1_safe": False}
    raise AssertionError(fault)
