"""`curate evaluate`, `curate suites` and `curate compare`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from curate.base.progress import quoted, safe, say
from curate.cli.options import check_once, one_of, say_next, with_params
from curate.cli.tables import print_table
from curate.project.params import EvaluateParams
from curate.project.params.evaluate import WATCHES


def _suite_names() -> list[str]:
    from curate.evaluation.suites import SUITES

    return list(SUITES)


@with_params(EvaluateParams, skip=("suites", *WATCHES, "options"))
def evaluate(
    params: EvaluateParams,
    model: Annotated[str, typer.Argument(help="A folder (a run's model/), or a Hub id.")],
    suite: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME or NAME=SOURCE, a file or hub:owner/name; `curate suites` lists them; may repeat.",
            autocompletion=one_of(_suite_names),
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for items.parquet, values.parquet and metrics.json; an evaluation there is replaced [default: "
            "evaluations/NAME, with /seed-SEED of a trained model, where no evaluation of another kind may stand]."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the model is called beside others [default: its arm].")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="SUITE.KEY=VALUE, a suite's own setting (`curate suites`); may repeat.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub model.")] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Run Python code that comes with the model.")] = False,
) -> None:
    """Have a model answer suites of prompts, and judge the answers.

    Every rate comes with its interval. An interrupted evaluation goes on when called again: answers and verdicts are
    kept in .curate.
    """
    from curate.base import files
    from curate.evaluation import evaluate as evaluation
    from curate.evaluation.record import BASE
    from curate.models.resolve import resolve_given
    from curate.project import params as parameters

    settings = params.model_dump() | {"suites": suite or _no_suite(model), "options": _options(option or [])}
    checked = parameters.check(EvaluateParams, settings)
    resolved = resolve_given(model, revision, trust_remote_code=trust_remote_code)
    record = resolved.folder / "curate.json"  # of an adapter its own, not its base's
    made: dict[str, Any] = files.read_json_object(record) if record.is_file() else {}
    name = name or made.get("arm") or BASE
    seed, state = made.get("seed"), files.state_folder()
    folder = out or Path("evaluations", _folder_name(name), *([] if seed is None else [f"seed-{seed}"]))
    if out is None:
        evaluation.check_same(folder, resolved, checked)
    metrics = evaluation.evaluate(resolved, checked, folder, state, name, seed, made)
    for suite_name, found in metrics["suites"].items():
        for metric, value in found["metrics"].items():
            said = f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}], n = {value['n']}"
            missed = f", {value['unjudged']} without a verdict" if value["unjudged"] else ""
            typer.echo(safe(f"{suite_name}: {metric}: {said}{missed}"))
    say(f"evaluate {name} -> {folder}")
    say_next(f"curate show {quoted(folder)}", "curate compare FOLDERS of several models")


def _no_suite(model: str) -> NoReturn:
    from curate.base.errors import UsageError

    raise UsageError(
        "say what to ask the model",
        field="--suite",
        found="none",
        expected=f"one or more of {', '.join(_suite_names())} (`curate suites` says what each measures)",
        remedy=f"curate evaluate {quoted(model)} --suite heldout=weights.parquet",
    )


def _folder_name(name: str) -> str:
    """A model's name as a folder's: nothing in it leads elsewhere."""
    import re

    return re.sub(r"[^\w.+-]", "-", name).strip(".-") or "model"


def _options(given: list[str]) -> dict[str, dict[str, Any]]:
    from curate.base.errors import UsageError
    from curate.project.params.reader import read_yaml

    check_once((text.partition("=")[0] for text in given), "--option", "an option")
    found: dict[str, dict[str, Any]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        suite, dot, key = name.partition(".")
        if not (equals and dot and suite and key):
            raise UsageError("cannot read an option", field="--option", found=text, expected="SUITE.KEY=VALUE")
        found.setdefault(suite, {})[key] = read_yaml(value, field=f"--option {name}")
    return found


def _written(value: Any) -> str:
    """A default as `--option` reads it."""
    import json

    return value if isinstance(value, str) else json.dumps(value)


def suites() -> None:
    """List the suites: what a model can be evaluated on.

    For each: what it measures, where its rows come from, its columns and settings.
    """
    from curate.evaluation.suites import SUITES
    from curate.evaluation.suites.base import layouts

    for name, suite in SUITES.items():
        typer.echo(f"{name}: {suite.about}")
        for number, columns in enumerate(layouts(suite)):
            said = "; ".join(" or ".join(spellings) for spellings in columns.values())
            typer.echo(f"    {'or ' * bool(number)}columns: {said}")
        if suite.columns:
            typer.echo(f"    source: {suite.source or 'a file that you name'}")
        for key, field in suite.options.model_fields.items():
            default = "" if field.is_required() else _written(field.default)
            must = " (must be given)" if field.is_required() else ""
            typer.echo(f"    --option {name}.{key}={default}: {field.description}{must}")


def compare(
    evaluations: Annotated[list[Path], typer.Argument(help="Folders of `curate evaluate`, or folders of them.")],
    others: Annotated[
        list[str] | None, typer.Option("--with", help="What arms are compared with; may repeat [default: the first].")
    ] = None,
    secondary: Annotated[bool, typer.Option(help="Also show the secondary metrics.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the comparisons as JSON.")] = None,
) -> None:
    """Compare evaluated models on the same prompts.

    Differences come with intervals, and p-values corrected for their number.
    """
    from curate.base import files
    from curate.cli.options import check_spared, with_keys
    from curate.evaluation import compare as comparing
    from curate.evaluation.record import read
    from curate.reporting.evaluations import comparison_table, estimate_tables, warnings

    if out is not None:
        check_spared(out, with_keys("suite", "metric", "arm", "verdict"))
    arms = comparing.arms(read(evaluations))
    names = others or [arms[0].name]
    comparing.check_others(arms, names)
    compared = comparing.compare(arms, names)
    has_headline = any(comparing.about(arm.runs, key)["headline"] for arm in arms for key in arm.estimates)
    for headline in (True, False) if secondary or not has_headline else (True,):
        for table in estimate_tables(arms, headline=headline):
            print_table(table if headline else table._replace(title=f"{table.title}, secondary"))
    if compared:
        print_table(comparison_table(compared))
    else:
        say(f"compare: nothing is compared with {', '.join(names)}: {comparing.missing(arms, names)}")
    for line in warnings(arms):
        say(line)
    if out is not None:
        files.write_json([one.record() for one in compared], out)
