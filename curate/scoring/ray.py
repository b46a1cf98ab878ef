"""The same scorer on a Ray cluster: Ray Data actors over ranges of a Parquet file, one store for all.

Each actor has its own engine and looks up and adds to the store by itself, so a run that was killed, or an actor that
died, goes on where it stopped. Pairs file and store must lie where every node sees them.
"""

from __future__ import annotations

import os
import pickle
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from curate.base.errors import CurateError, InputError, UsageError, first_line
from curate.base.exits import signals_kept
from curate.base.progress import progress, say
from curate.models import rendering
from curate.models.faults import check_digest
from curate.models.resolve import Model, resolve
from curate.pairs.artefact import scan_artefact
from curate.project.params import ScoreParams
from curate.scoring.choice import choose
from curate.scoring.chunks import (
    CHUNK_PAIRS,
    Chunk,
    Pairs,
    as_chunk,
    check_lengths,
    longest_sequence,
    provenance_of,
    say_computed,
    template_of,
)
from curate.scoring.engines import version
from curate.scoring.null_prompts import NullPrompts, null_prompts
from curate.scoring.scorer import Counts, Scored, Scorer, render_chunk

DEATHS = 3  # of an actor that Ray makes up for; Ray's own default is any number


class ScoreActor:
    """Scores ranges of the pairs file. It has one GPU, or its share of the CPUs."""

    def __init__(
        self, pairs: Path, model: Model, params: ScoreParams, engine: str, root: Path, nulls: NullPrompts
    ) -> None:
        self.fault: CurateError | None = None  # told when the first range is asked for: Ray would wrap it in its own
        try:
            model = _here(model)
            self.pairs, self.params = scan_artefact(pairs, "pairs"), params
            self.tokenizer = rendering.load_tokenizer(model)
            self.scorer = Scorer(model, params, engine, root, nulls, longest_sequence(model, params))
        except CurateError as error:
            self.fault = error

    def __call__(self, ranges: dict[str, Any]) -> dict[str, list[Any]]:
        """A range of rows -> `Scored` pickled, or the error that it ended with."""
        try:
            done: Scored | CurateError = self.fault or self._score(int(ranges["first"][0]), int(ranges["rows"][0]))
        except CurateError as error:  # as a value: Ray would wrap an exception in its own
            done = error
        return {"done": [pickle.dumps(done)]}

    def _score(self, first: int, rows: int) -> Scored:
        pairs = self.pairs.slice(first, rows).collect()
        rendered, unrenderable = render_chunk(self.tokenizer, pairs, self.params)
        chunk = as_chunk(pairs, rendered)
        if self.params.too_long == "error" and chunk[0].height:
            check_lengths([chunk], self.scorer.nulls, self.scorer.limit, self.params, pairs.height)
        scored = self.scorer.score(*chunk, _nowhere)
        return scored._replace(rejects=pl.concat([unrenderable, scored.rejects]))


def score_on_ray(
    pairs: Pairs, model: Model, params: ScoreParams, root: Path, keep: Callable[[Scored], None]
) -> dict[str, Any]:
    """Score on `ray_workers` actors, and return the provenance. `keep` gets the chunks in the file's order.

    The actors render the pairs, so a pair that cannot be scored is met when its turn comes; what was scored is kept.

    Raises:
        UsageError: the pairs are in no file.
        InputError: Ray is not installed, the cluster cannot be joined, or an actor met one.
        OutputError: an actor cannot write the store.
    """
    if pairs.path is None:
        raise UsageError("the ray engine scores a Parquet file", remedy="use score_file, or the command")
    tokenizer = rendering.load_tokenizer(model)
    limit = longest_sequence(model, params)

    def rendered() -> Iterator[Chunk]:  # gone through for contrastive pools only, which are drawn from all prompts
        for chunk in pairs.chunks():
            yield as_chunk(chunk, render_chunk(tokenizer, chunk, params)[0])

    nulls = null_prompts(tokenizer, params, limit, rendered)
    template = template_of(tokenizer)
    counts = Counts()
    started = time.monotonic()
    with _cluster(params) as resources:
        # Whole paths: an actor's working folder is where its node was started.
        placed = model._replace(path=model.path.resolve())
        params, engine = _on_a_worker(params, placed._replace(context=limit + 1), root.resolve(), resources)
        say(f"score: engine {params.engine} on {params.ray_workers} Ray actors, each with {resources}")
        with progress(f"score (ray, {params.engine})", pairs.height, "pairs") as advance:
            arguments = (pairs.path.resolve(), placed, params, engine, root.resolve(), nulls)
            for scored in _in_order(pairs.height, arguments, params.ray_workers, resources):
                if isinstance(scored, CurateError):
                    raise scored
                pairs.check()  # an actor reads the file by itself
                keep(scored)
                counts = counts.plus(scored.counts)
                advance(scored.scores.height + scored.rejects.height)
    say_computed(counts, time.monotonic() - started)
    return provenance_of(model, params, engine, nulls, template)


def _in_order(
    height: int, arguments: tuple, workers: int, resources: dict[str, float]
) -> Iterator[Scored | CurateError]:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    chunk = CHUNK_PAIRS
    ranges = [{"first": first, "rows": chunk} for first in range(0, height, chunk)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of options that Ray has no other way to give
        done = ray.data.from_items(ranges, override_num_blocks=len(ranges)).map_batches(
            ScoreActor,
            fn_constructor_args=arguments,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(ranges))),
            max_restarts=DEATHS,
            max_task_retries=DEATHS,
            **resources,
        )
    for row in _until_death(done.iter_rows(), chunk, height):
        yield pickle.loads(row["done"])


def _until_death(rows: Iterable[dict[str, Any]], chunk: int, height: int) -> Iterator[dict[str, Any]]:
    """The rows as they come, one a chunk of pairs. Raises `InputError` where Ray has given up an actor."""
    from ray import exceptions

    done = 0
    try:
        for row in rows:
            yield row
            done += 1
    except (exceptions.RayActorError, exceptions.WorkerCrashedError, exceptions.OutOfMemoryError) as error:
        first = done * chunk + 1
        raise InputError(
            f"a worker that scores died {DEATHS + 1} times",
            field=f"pairs {first} to {min(first + chunk - 1, height)}, or others that were scored at the time",
            found=first_line(error),
            remedy="most often memory ran out: fewer score.ray_workers, larger nodes, or a lower score.max_length; "
            "what the score store holds is kept",
        ) from error


@contextmanager
def _cluster(params: ScoreParams) -> Iterator[dict[str, float]]:
    """Ray, started or joined for this block; yields what each actor gets of it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")  # else its plans and its advice are on the screen
    try:
        import ray
    except ImportError as error:
        raise InputError("the ray engine needs Ray", remedy="pip install 'curate-preferences[ray]'") from error
    ours = not ray.is_initialized()
    if ours:
        try:
            with signals_kept():
                ray.init(address=params.ray_address, include_dashboard=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(
                "cannot join the Ray cluster",
                field="score.ray_address",
                found=f"{params.ray_address}: {first_line(error)}",
                remedy="give the address of a running cluster, or none to start one on this machine",
            ) from error
    try:
        total = ray.cluster_resources()
        if total.get("GPU", 0) >= 1:
            yield {"num_cpus": 1, "num_gpus": 1}
        else:
            nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
            smallest = min((cpus for cpus in nodes if cpus), default=1)
            yield {"num_cpus": max(1, int(min(total.get("CPU", 1) // params.ray_workers, smallest)))}
    finally:
        if ours:
            ray.shutdown()


def _here(model: Model) -> Model:
    """The model on this node: a Hub model, which it may not have got yet; or a folder, which should be the driver's."""
    name = model.name if model.commit else model.folder
    here = resolve(name, model.commit, trust_remote_code=model.trust_remote_code)
    check_digest(
        "another model is at this path on a worker's node",
        model.folder,
        here.digest,
        model.digest,
        remedy="put the very same files there on every node, or name a model of the Hub",
    )
    return here._replace(name=model.name)


def _on_a_worker(params: ScoreParams, model: Model, root: Path, resources: dict[str, float]) -> tuple[ScoreParams, str]:
    """Engine and version as an actor will find them: the driver's node may have another device."""
    import ray

    @ray.remote(**resources)
    def look(inner: ScoreParams) -> tuple[ScoreParams, str] | CurateError:
        try:
            here = _here(model)._replace(context=model.context)
            found = choose(inner, here, root)
            return found, version(found, here)
        except CurateError as error:
            return error

    found = ray.get(look.remote(params.model_copy(update={"engine": params.ray_engine})))
    if isinstance(found, CurateError):
        raise found
    return found[0], found[1]


def _nowhere(amount: float = 1, /) -> None:
    """Progress is shown by the driver."""
