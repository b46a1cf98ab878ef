"""B-DPO inside TRL: its DPOTrainer with a weight on each side of a pair, and all that TRL has besides.

TRL computes everything it always does; what it returns as the loss is put in place by B-DPO's, from the same forward
pass. Reference log-probabilities that come with the pairs take the place of a reference model; they belong to the
tokens that were scored, so such pairs are tokenised as `curate score` does it (curate.models.rendering), not as
TRL does.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from typing import Any

from curate.base.errors import InputError, UsageError, first_line
from curate.models.rendering import CHUNK
from curate.models.softcap import attend_capped
from curate.pairs.schema import WEIGHTS

TESTED = "1.16"  # the minor version; the tests run 1.16.0
REMEDY = "pip install 'trl==1.16.0'"
try:
    import torch
    import trl
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from curate.objectives.bdpo import bdpo
    from curate.training.trl_pairs import REFERENCE, WithWeights, check, render
except (ImportError, RuntimeError) as error:  # RuntimeError: TRL's own, where a package that it needs is missing
    raise InputError("curate.trl needs TRL", found=first_line(error), remedy=REMEDY) from error

TOLERANCE, HALF_TOLERANCE = 1e-3, 2e-2  # nats/token: of float32, and of bfloat16 or float16
OVERRIDDEN = {
    "_prepare_dataset": "self, dataset, processing_class, args, dataset_name",
    "_set_signature_columns_if_needed": "self",
    "_precompute_ref_logps": "self, dataset, name, batch_size",
    "compute_ref_log_probs": "self, model, inputs",
    "_compute_loss": "self, model, inputs, return_outputs",
}
"""What is overridden below, with the parameters that TRL calls it with."""

SETTLED: dict[str, tuple[tuple[Any, ...], str]] = {
    "loss_type": ((["sigmoid"],), "the weights are those of the sigmoid loss"),
    "loss_weights": ((None, [1.0]), "there is one loss"),
    "label_smoothing": ((0.0,), "B-DPO has no smoothed labels"),
    "ld_alpha": ((None,), "it weighs tokens, and B-DPO weighs whole responses"),
    "f_divergence_type": (("reverse_kl",), "B-DPO is made of log-ratios"),
    "use_weighting": ((False,), "WPO's weights and B-DPO's are two losses"),
    "padding_free": ((False,), "TRL 1.16 itself falls back to padding"),
    "use_liger_kernel": ((False,), 'TRL deprecates it, model_init_kwargs={"use_kernels": True} takes its place'),
}
"""Options of DPOConfig that would change the loss or the batch: the values that fit the weights, and why."""


class WeightedDPOTrainer(DPOTrainer):
    """`trl.DPOTrainer` whose loss is L = -s log sigmoid(beta (w_w Delta_w - w_l Delta_l)). [ours: docs/method.md, Loss]

    The rewards it logs are TRL's, unweighted. Every dataset has `chosen_weight`, `rejected_weight`, `pair_scale`, as
    `curate weigh` writes them. If one has `ref_chosen_logps` and `ref_rejected_logps`, no reference model is loaded;
    all datasets are then tokenised as `curate score` does it, and one that lacks the two columns has them computed
    before training (TRL's `precompute_ref_log_probs`).

    Args:
        model, args, ref_model, options: as `trl.DPOTrainer` takes them.
        train_dataset, eval_dataset: map-style, conversational.
        check_pairs: stored log-probs of so many pairs of each dataset are computed again at the start.
        check_tolerance: largest mean difference there, nats/token; None: 1e-3, and 2e-2 in bfloat16 or float16.

    Raises:
        UsageError: an option that contradicts the weights or the stored log-probs.
        InputError: a TRL that was not tested; no weights, or null, NaN, infinite or negative ones; stored log-probs
            that are of other tokens or of another model, or of a pair that `max_length` would cut.
    """

    _name = "B-DPO"
    _tag_names = ["trl", "b-dpo"]  # noqa: RUF012  (TRL's attribute)
    _paper = {"title": "Balanced Direct Preference Optimization", "id": "2603.22829"}  # noqa: RUF012

    def __init__(
        self,
        model: Any,
        *,
        args: DPOConfig,
        train_dataset: Dataset,
        eval_dataset: Dataset | Mapping[str, Dataset] | None = None,
        ref_model: Any = None,
        check_pairs: int = 32,
        check_tolerance: float | None = None,
        **options: Any,
    ) -> None:
        _check_trl()
        _check_options(args)
        if check_pairs < 1:
            raise UsageError("nothing would be checked", field="check_pairs", found=check_pairs, expected="1 or more")
        evaluated = eval_dataset if isinstance(eval_dataset, Mapping) else {"eval": eval_dataset}
        named = [("train", train_dataset), *((k, v) for k, v in evaluated.items() if v is not None)]
        have = [check(dataset, name) for name, dataset in named]
        self.as_scored = any(have)
        if self.as_scored:
            _check_with_stored(args, ref_model)
            args = copy.copy(args)
            args.precompute_ref_log_probs = True  # TRL: no reference model, log-probs from the batch
        self.check_pairs, self.check_tolerance = check_pairs, check_tolerance
        self._same_formula = False
        super().__init__(
            model,
            ref_model=ref_model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            **options,
        )
        self._attend_capped()
        self.data_collator: Any = WithWeights(self.data_collator)
        # TRL reads them from the batch, always: where the pairs do not have them, _compute_loss puts them there.
        self.precompute_ref_logps = True

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns += [name for name in WEIGHTS if name not in self._signature_columns]

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        stored = check(dataset, dataset_name, as_scored=self.as_scored)
        if not self.as_scored:
            if stored:  # given to evaluate(): of other tokens than this trainer's, which has a reference model
                dataset = dataset.remove_columns(list(REFERENCE))
            return super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        # In this process, whatever dataset_num_proc is: polars hangs in a forked one, and the tokenizer has threads.
        return dataset.map(
            render,
            fn_kwargs={
                "tokenizer": getattr(processing_class, "tokenizer", processing_class),
                "max_length": args.max_length,
                "name": dataset_name,
            },
            with_indices=True,
            batched=True,
            batch_size=CHUNK,
            load_from_cache_file=False,  # its key would not see a change of our rendering
            desc=f"Tokenizing {dataset_name} dataset",
        )

    def _attend_capped(self) -> None:
        """The models, which TRL may have loaded, as `curate score` loads them."""
        for net in filter(None, (self.model, self.ref_model)):
            attend_capped(net)

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        if not self.args.precompute_ref_log_probs:  # evaluate() asks
            return dataset
        self._attend_capped()
        if REFERENCE[0] not in dataset.column_names:
            return super()._precompute_ref_logps(dataset, name, batch_size)
        self._check_reference(dataset, name, batch_size)
        return dataset

    def _check_reference(self, dataset: Dataset, name: str, batch_size: int) -> None:
        """Compute some of the stored log-probs again, of pairs evenly spread over the dataset."""
        rows = range(0, len(dataset), max(1, len(dataset) // self.check_pairs))[: self.check_pairs]
        differences = []
        for start in range(0, len(rows), batch_size):
            examples = [dataset[row] for row in rows[start : start + batch_size]]
            batch = self._prepare_inputs(self.data_collator(examples))
            found = torch.cat(self.compute_ref_log_probs(self.ref_model or self.model, batch))
            stored = torch.cat([batch[column] for column in REFERENCE])
            differences.append((found - stored).abs() / batch["completion_mask"].sum(1))
        mean = float(torch.cat(differences).mean())
        half = self.args.bf16 or self.args.fp16 or self.model.dtype != torch.float32
        tolerance = self.check_tolerance
        if tolerance is None:
            tolerance = HALF_TOLERANCE if half else TOLERANCE
        if not mean <= tolerance:
            raise InputError(
                "the stored reference log-probs are not this model's",
                field=f"{name} dataset, {', '.join(REFERENCE)}",
                found=f"mean difference {mean:.2g} nats/token over {len(rows)} pairs",
                expected=f"at most check_tolerance = {tolerance:g}",
                remedy="train from the model that scored the pairs, or score again with this one; a quantised model or "
                "another dtype: raise check_tolerance, or remove the two columns and let TRL compute them",
            )

    def compute_ref_log_probs(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        return super().compute_ref_log_probs(model, {k: v for k, v in inputs.items() if k not in WEIGHTS})

    def _compute_loss(self, model: Any, inputs: Mapping[str, Any], return_outputs: bool) -> Any:
        inputs = dict(inputs)
        weights = [inputs.pop(name) for name in WEIGHTS]
        if REFERENCE[0] not in inputs:
            found = self.compute_ref_log_probs(self.ref_model or self.model, inputs)
            inputs |= zip(REFERENCE, found, strict=True)
        seen: list[Any] = []

        def watched(**tensors: Any) -> Any:
            seen.append(model(**tensors))
            return seen[-1]

        returned = super()._compute_loss(watched, inputs, return_outputs)
        logps = getattr(seen[0], "log_probs", None) if seen else None
        if logps is None:
            raise _changed("its _compute_loss does not call the model for log_probs")
        scored = inputs["input_ids"].shape[1] - 1  # prompt-learning PEFT puts virtual tokens before
        logps = (*logps[:, -scored:].sum(1).chunk(2), *(inputs[name] for name in REFERENCE))
        loss = bdpo(*logps, *weights, beta=self.beta).mean()
        rest = self.router_aux_loss_coef * seen[0].aux_loss if self.aux_loss_enabled else 0.0
        if not self._same_formula:
            theirs = (returned[0] if return_outputs else returned).item()
            plain = (bdpo(*logps, *map(torch.ones_like, weights), beta=self.beta).mean() + rest).item()
            if math.isfinite(theirs) and not math.isclose(plain, theirs, rel_tol=1e-4, abs_tol=1e-5):
                raise _changed(f"its DPO loss is {theirs:g}, and {plain:g} by its log_probs")
            self._same_formula = True
        return (loss + rest, returned[1]) if return_outputs else loss + rest


def _check_options(args: DPOConfig) -> None:
    for name, (fitting, why) in SETTLED.items():
        found = getattr(args, name)
        if found not in fitting:
            raise UsageError(
                f"B-DPO's weights do not go with this option: {why}",
                field=f"DPOConfig.{name}",
                found=found,
                expected=fitting[0],
            )


def _check_with_stored(args: DPOConfig, ref_model: Any) -> None:
    for name, given, why in (
        ("ref_model", ref_model is not None, "they take the place of a reference model"),
        ("DPOConfig.sync_ref_model", args.sync_ref_model, "they are of a reference that stands still"),
        ("DPOConfig.deepspeed", args.deepspeed_plugin is not None, "they cannot be checked before training there"),
    ):
        if given:
            raise UsageError(
                f"stored reference log-probs do not go with this option: {why}",
                field=name,
                remedy=f"leave it out, or dataset.remove_columns({list(REFERENCE)})",
            )


def _check_trl() -> None:
    if trl.__version__.split(".")[:2] != TESTED.split("."):
        raise _changed("another version")
    for name, expected in OVERRIDDEN.items():
        found = ", ".join(inspect.signature(getattr(DPOTrainer, name)).parameters) if hasattr(DPOTrainer, name) else ""
        if found != expected:
            raise _changed(f"DPOTrainer.{name}({found or 'no such method'}), not ({expected})")


def _changed(found: str) -> InputError:
    return InputError(
        "curate.trl does not know this TRL",
        found=f"trl {trl.__version__}: {found}",
        expected=f"trl {TESTED}",
        remedy=REMEDY,
    )
