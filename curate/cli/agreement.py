"""`curate agreement`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from curate.project.params import Dtype, EvaluateParams

if TYPE_CHECKING:
    from curate.evaluation.judges.base import Judge


def _about(name: str) -> str | None:
    return EvaluateParams.model_fields[name].description


def agreement(
    labels: Annotated[Path, typer.Argument(help="JSON, JSON lines, CSV or Parquet: prompt, response, label.")],
    judge: Annotated[
        Literal["refusals", "rubric", "strongreject", "classifier"],
        typer.Option(help="refusals is string matching; the others are as in params, evaluate.judge."),
    ],
    judge_model: Annotated[str | None, typer.Option(help=_about("judge_model"))] = None,
    judge_revision: Annotated[str | None, typer.Option(help=_about("judge_revision"))] = None,
    judge_url: Annotated[str | None, typer.Option(help=_about("judge_url"))] = None,
    judge_dtype: Annotated[Dtype, typer.Option(help=_about("judge_dtype"))] = "float32",
    judge_label: Annotated[str | None, typer.Option(help=_about("judge_label"))] = None,
    engine: Annotated[
        Literal["auto", "vllm", "transformers"], typer.Option(help="What the judge of --judge rubric runs on.")
    ] = "auto",
    task: Annotated[
        Literal["harm", "compliance"],
        typer.Option(help="harm: labels say harmful or not, or a score; compliance: XSTest's three classes."),
    ] = "harm",
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="harm: from this score on a response counts as harmful.")
    ] = 0.5,
    out: Annotated[Path | None, typer.Option("--out", help="Write the numbers here, too: a file *.json.")] = None,
) -> None:
    """Measure a judge against people's labels.

    It prints accuracy and Cohen's kappa, for a judge that grades harm also AUROC and calibration, each with its 95%
    interval; accuracy by length; and the confusion matrix. A response that the judge cannot judge counts as wrong in
    the accuracy and is left out of the others. No text is printed.
    """
    from curate.base import files
    from curate.base.errors import UsageError
    from curate.cli.options import check_beside, with_keys
    from curate.evaluation.judges import agreement as measure

    if out is not None and (out.suffix != ".json" or out.is_dir()):
        raise UsageError("--out must name a JSON file", field="out", found=out.name, expected="a file *.json")
    if out is not None:
        check_beside(out, labels, with_keys("accuracy", "confusion", "provenance"))
    labelled = measure.read_labels(labels, task, threshold)
    read = measure.read_from(labels)  # at once: the file may change while the judge judges
    own = {"judge_model": judge_model, "judge_revision": judge_revision, "judge_url": judge_url}
    own |= {"judge_dtype": judge_dtype, "judge_label": judge_label, "engine": engine}
    opened = _opened(judge, own)
    try:
        if task not in opened.tasks:
            found = f"{judge}: {', '.join(sorted(opened.tasks))}"
            remedy = "judge compliance with rubric"
            raise UsageError(
                "this judge does not know the task", field="task", found=found, expected=task, remedy=remedy
            )
        result = measure.agreement(labelled, opened, task, threshold)
        result["provenance"] = read | {"judge": opened.record()}
    finally:
        opened.close()
    typer.echo("\n".join(lines(result, judge)))
    if out is not None:
        files.write_json(result, out)


def _opened(judge: str, options: dict[str, Any]) -> Judge:
    """The judge that is measured. `options` are keys of `evaluate`.

    Raises:
        UsageError: string matching was given a model, an address or a label, or an option is wrong.
        InputError: the judge cannot be loaded.
    """
    from curate.base import files
    from curate.base.errors import UsageError
    from curate.evaluation.judges import open_judge
    from curate.evaluation.judges.refusals import StringMatching
    from curate.project import params as parameters

    if judge == "refusals":
        for name in ("judge_model", "judge_url", "judge_label"):
            if options[name] is not None:
                raise UsageError("string matching takes no such option", field=name, found=options[name])
        return StringMatching()
    opened = open_judge(parameters.check(EvaluateParams, {"judge": judge} | options), files.state_folder())
    assert opened is not None
    return opened


def lines(result: dict[str, Any], judge: str) -> list[str]:
    """What `judges.agreement.agreement` found, for people."""
    found = result["intervals"]
    why = ", ".join(f"{count} {reason}" for reason, count in result["why"].items())
    said = [
        f"responses  {result['n']:,}",
        f"unjudged   {result['unjudged']:,}" + (f" ({why})" if why else ""),
        f"accuracy   {_number(result['accuracy'], found['accuracy'])} (all responses; unjudged ones count as wrong)",
        f"kappa      {_number(result['kappa'], found.get('kappa'))} (judged responses)",
    ]
    words_of = {"auroc": "the judge's harm against the labels", "spearman": "the judge's harm against the scores"}
    words_of["ece"] = "expected calibration error, 10 bins"
    said += [
        f"{name:<10} {_number(result[name], found.get(name))} ({words})"
        for name, words in words_of.items()
        if name in result
    ]
    for third in result["by_length"]:
        low, high = third["words"]
        ranked = f", auroc {_number(third['auroc'])}" if "auroc" in third else ""
        said.append(f"{low:,} to {high:,} words: {third['n']:,} responses, accuracy {third['accuracy']:.3f}{ranked}")
    names = result["labels"]
    width = max(len(name) for name in (*names, "unjudged")) + 2
    head = f"people (rows), {judge} (columns)"
    said += ["", head + "".join(f"{name:>{width}}" for name in (*names, "unjudged"))]
    for name, row in zip(names, result["confusion"], strict=True):
        said.append(f"{name:<{len(head)}}" + "".join(f"{count:>{width},}" for count in row))
    return said


def _number(value: float | None, interval: list[float] | None = None) -> str:
    if value is None:
        return "undefined"
    return f"{value:.3f}" + (f", 95% {interval[0]:.3f} to {interval[1]:.3f}" if interval else "")
