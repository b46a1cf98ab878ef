"""What suites work with: the model under test, the judge, the attacker, each opened when it is first wanted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from curate.base.device import device_type
from curate.base.errors import UsageError
from curate.evaluation.generation.base import ChatModel, Sampling
from curate.evaluation.generation.local import LocalChat, close_all
from curate.evaluation.items import NO_ROOM, Item, Judgement, Response
from curate.evaluation.judges import open_judge
from curate.evaluation.judges.base import Case, Judge
from curate.evaluation.judges.truth import SampleTruth
from curate.models.rendering import TokenSequence
from curate.models.resolve import Model, resolve
from curate.project.params import EvaluateParams, ScoreParams

NO_ANSWER = {"too_long": NO_ROOM, "error": "the endpoint gave no text"}


class Workbench:
    """`suites.base.Bench` for one model. Its caches lie in `state`, by content, and outlive it."""

    def __init__(self, model: Model, params: EvaluateParams, state: Path) -> None:
        """Raises `InputError` or `UsageError` where the judge cannot be opened: before anything is generated."""
        self.model, self.params, self.state = model, params, state
        self.dtype: str = params.dtype
        self.seed = params.seed
        self.sampling = Sampling(params.max_tokens, params.temperature, params.top_p, params.seed)
        self.configured: Judge | None = open_judge(params, state)
        self.judging = self.configured  # for the suite at hand: the embedded sample has a judge of its own
        self.chat: ChatModel = LocalChat(model, params.dtype, params.engine, state)
        self.counts: dict[str, int] = {}
        self._attacker: ChatModel | None = None

    def start(self, truth: bool) -> None:
        """Begin a suite: its judge is what the embedded sample's generator knows, or the one that params name."""
        self.judging = SampleTruth() if truth else self.configured
        self.counts = {}

    def attacker(self) -> ChatModel:
        from curate.evaluation.generation.endpoint import EndpointChat

        if self._attacker is None:
            name, url = self.params.attacker_model, self.params.attacker_url
            if name is None:
                raise UsageError(
                    "this suite wants a model that writes attacks", field="evaluate.attacker_model", found="none"
                )
            if url:
                self._attacker = EndpointChat(url, name, self.state)
            else:
                self._attacker = LocalChat(resolve(name), self.params.judge_dtype, self.params.engine, self.state)
        return self._attacker

    def can_judge(self, task: str) -> bool:
        return self.judging is not None and task in self.judging.tasks

    def judge(self, items: Sequence[Item], responses: Sequence[Response], task: str) -> list[Judgement]:
        verdicts = [_unanswered(response) for response in responses]
        if not self.can_judge(task):
            return [verdict or Judgement() for verdict in verdicts]
        assert self.judging is not None
        wanted = [number for number, verdict in enumerate(verdicts) if verdict is None]
        cases = [Case(items[number].asked, responses[number].whole, responses[number].text or "") for number in wanted]
        for number, verdict in zip(wanted, self.judging.judge(cases, task) if cases else [], strict=True):
            verdicts[number] = verdict
        if device_type() == "cuda":  # its memory holds one model at a time
            self.judging.close()
        return [verdict or Judgement() for verdict in verdicts]

    def logps(self, sequences: Sequence[TokenSequence]) -> np.ndarray:
        from curate.scoring.choice import choose
        from curate.scoring.engines import open_engine, version
        from curate.scoring.scorer import not_finite, store_of

        # As answers: of few sequences vLLM's start on a CPU takes longer than they do.
        on_cpu = self.params.engine == "auto" and device_type() == "cpu"
        engine = "transformers" if on_cpu else self.params.engine
        params = ScoreParams.model_validate({"dtype": self.dtype, "engine": engine})
        params = choose(params, self.model, self.state / "scores")
        store = store_of(self.state / "scores", self.model, self.dtype, params.engine, version(params, self.model))
        keys = [store.key(sequence) for sequence in sequences]
        found: np.ndarray = store.lookup(keys)
        missing = np.flatnonzero(np.isnan(found))
        if missing.size:
            if device_type() == "cuda":
                close_all()
            with closing(open_engine(params, self.model)) as opened:
                found[missing] = opened.logps([sequences[number] for number in missing])
            if not (good := np.isfinite(found)).all():
                raise not_finite(found[~good], file=self.model.path)
            store.add([keys[number] for number in missing], found[missing])
        return found

    def record(self) -> dict[str, Any]:
        """Who answered, judged and attacked, as provenance has it."""
        parts = {"chat": self.chat, "judge": self.configured, "attacker": self._attacker}
        return {name: part.record() for name, part in parts.items() if part is not None}

    def close(self) -> None:
        for part in (self.chat, self.configured, self._attacker):
            if part is not None:
                part.close()


def _unanswered(response: Response) -> Judgement | None:
    """The verdict on a response that is none: there is nothing to judge, which is never taken for safe."""
    if response.text is None:
        return Judgement(why=NO_ANSWER.get(response.finish, response.finish))
    return None if response.text.strip() else Judgement(why="empty response")
