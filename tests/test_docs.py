"""What the documents say is so: their commands run, their options exist, their tables are the code's.

tests/doc_commands.py says what stands in for a command that cannot run here as it is.
"""

import contextlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import polars as pl
import pytest
import yaml
from command import environment
from doc_commands import SKIPPED, STAND_INS, matching, skipped, stand_in
from scripts import script
from tiny import save_model

import curate
from curate.project import params

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROJECT = ("curate", "stages", "presets", "configs", "benchmarks", "docs", "requirements", ".dvc", "dvc.yaml")
PROJECT += (".dvcignore", ".gitignore", "Makefile", "pyproject.toml", "tests")
SMALL = {
    "data": {"sample_pairs": 60},
    "reference": {"steps": 3, "vocab_size": 400, "hidden_size": 64, "heads": 2, "layers": 1, "context": 512},
    "score": {"engine": "transformers"},
    "train": {"arms": ["bdpo"], "epochs": 1, "evaluations": 1, "eval_pairs": 8, "check_pairs": 2, "checkpoints": 1},
    "evaluate": {"engine": "transformers", "limit": 2, "max_tokens": 4},
}
"""A params file that runs in seconds: what differs from the defaults."""

write = script("docs/write.py")


def shell_blocks(text):
    """The lines of every block of shell commands, block by block."""
    blocks, block, fence, before = [], None, None, ""
    for line in [*text.splitlines(), ""]:
        mark = re.match(r" {0,3}```(\w*)", line)
        if fence is not None:
            if mark:
                blocks.append((fence, block))
                fence, block = None, None
            else:
                block.append(line)
        elif mark:
            fence, block = mark[1], []
        elif block is not None:
            if line.startswith("    ") or not line.strip():
                block.append(line.removeprefix("    "))
            else:
                blocks.append(("", block))
                block = None
        elif line.startswith("    ") and not before.strip():
            block = [line.removeprefix("    ")]
        before = line
    if block:
        blocks.append((fence or "", block))
    return [lines for language, lines in blocks if language in ("sh", "bash") or (not language and is_shell(lines))]


def is_shell(lines):
    first = next((re.sub(r"^([A-Z_]+=\S* )*", "", line) for line in lines if line.strip()), "")
    word = first.split(" ")[0]
    known = ("cd", "export", "vllm", "pip", "uv", "ray", "docker", "curate", "dvc", "accelerate", "hf")
    return bool(re.fullmatch(r"[\w./-]+", word)) and (word in known or shutil.which(word) is not None)


def commands(document):
    """Every command of the document, comments left out and continued lines joined."""
    found = []
    for block in shell_blocks(document.read_text(encoding="utf-8")):
        joined = re.sub(r"\\\n\s*", "", "\n".join(block))
        found += [re.sub(r"(^|\s+)# .*$", "", line).strip() for line in joined.splitlines()]
    return [command for command in found if command]


def name(document):
    return document.relative_to(ROOT).as_posix()


ALL = [(name(document), command) for document in DOCUMENTS for command in commands(document)]


def smaller(values):
    """`values` of a params file, so that it runs in seconds."""
    for section, changes in SMALL.items():
        values[section] |= changes
    return params.to_yaml(params.check(params.Params, values))


@pytest.fixture(scope="module")
def working(tmp_path_factory, sample_pairs):
    """The working folder that doc_commands.py describes; each document gets a copy."""
    folder = tmp_path_factory.mktemp("docs")
    for part in map(ROOT.joinpath, PROJECT):
        ignored = shutil.ignore_patterns("__pycache__", "cache", "tmp", "*.local")
        if part.is_dir():
            shutil.copytree(part, folder / part.name, ignore=ignored)
        else:
            shutil.copy(part, folder)
    (folder / "params.yaml").write_text(smaller(params.Params().model_dump()))
    last = pl.element().struct.field("content")
    sample_pairs.head(60).select(
        pl.col("prompt", "chosen", "rejected").list.eval(last).list.last(), "chosen_safe", "rejected_safe"
    ).write_ndjson(folder / "pairs.jsonl")
    labels = [
        {"prompt": "how?", "response": text, "label": text == "Sure."} for text in ("Sure.", "I cannot help.") * 3
    ]
    pl.DataFrame(labels).write_ndjson(folder / "labels.jsonl")
    save_model(folder / "model", context=1024)
    for command in (
        "prepare pairs.jsonl --out pairs.parquet",
        "score pairs.parquet --model model --engine transformers --out scores.parquet",
        "split scores.parquet --out splits.parquet",
        "weigh splits.parquet --out weights.parquet",
        "train weights.parquet --model model --arm bdpo --epochs 1 --evaluations 1 --out runs/bdpo",
    ):
        run(f"curate {command}", folder)
    return folder


@pytest.fixture
def folder(working, tmp_path):
    shutil.copytree(working, tmp_path, dirs_exist_ok=True)
    run("git init --quiet && git add --all && git commit --quiet --message start", tmp_path)
    return tmp_path


def committing():
    """The environment of another process, in which git knows who commits."""
    who = {f"GIT_{role}_{what}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return environment() | who


def run(command, folder):
    """Run `command` in `folder`; the folder that it leaves the shell in.

    A plain `curate` runs in this process, which has imported torch already; all else in a shell.
    """
    words = shlex.split(command)
    if words[0] == "curate" and not set(command) & set("&|;<>$*") and "completion" not in command:
        from curate.cli import app

        with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", words)
            patch.setenv("COLUMNS", "100")
            try:
                app(words[1:], standalone_mode=False)
            except SystemExit as stop:
                assert stop.code in (0, None), command
        return folder
    script = f"set -e\n{command}\npwd >&3"
    place = folder / ".place"
    with place.open("w") as where:
        done = subprocess.run(
            ["bash", "-c", script.replace(">&3", f">&{where.fileno()}")],
            cwd=folder,
            env=committing(),
            pass_fds=[where.fileno()],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    left_in = Path(place.read_text().strip())
    place.unlink()
    return left_in


@pytest.mark.slow
@pytest.mark.parametrize("document", [document for document in DOCUMENTS if commands(document)], ids=name)
def test_the_commands_run(document, folder, monkeypatch):
    monkeypatch.delenv("CURATE_STATE", raising=False)
    for command in commands(document):
        if skipped(command) is None:
            folder = run(stand_in(command, name(document)), folder)


def test_blocks_of_shell_are_told_from_others():
    text = "a\n\n    make run   # all\n    curate x \\\n        --out y\n\nb\n\n    key: value\n\n```sh\ncd x\n```\n"
    found = [[line for line in block if line.strip()] for block in shell_blocks(text)]
    assert found == [["make run   # all", "curate x \\", "    --out y"], ["cd x"]]


def test_every_rule_is_for_a_command_that_is_documented():
    unused = [rule for rule in SKIPPED if not any(skipped(command) == rule for _, command in ALL)]
    runs = [(document, command) for document, command in ALL if skipped(command) is None]
    unused += [rule for rule in STAND_INS if not any(rule in matching(command, where) for where, command in runs)]
    assert unused == []


def test_options_md_is_up_to_date():
    assert write.FILE.read_text(encoding="utf-8") == write.text(), "run python docs/write.py"
    assert write.FORMATS_FILE.read_text(encoding="utf-8") == write.formats(), "run python docs/write.py"
    assert "| `--alpha` | `1.5` | number ≥ 0, ≤ 1000 |" in write.text(), "a command's option with its key's bounds"


def test_every_option_that_is_written_somewhere_exists():
    known = {"curate": {"--help", "--version", "--install-completion", "--show-completion"}}
    for section in write.text().split("\n### ")[1:]:
        words = re.findall(r"[a-z-]+", re.match(r"`(curate[a-z -]*)", section)[1]) if section[1:7] == "curate" else []
        if words:
            known[" ".join(words)] = {*re.findall(r"^\| `(--[a-z-]+)`", section, re.M), "--help"}
    inline = [
        (name(document), mention)
        for document in DOCUMENTS
        for mention in re.findall(r"`(curate [^`]+)`", document.read_text(encoding="utf-8"))
        if document != write.FILE
    ]
    wrong = []
    for where, mention in [*inline, *ALL]:
        for part in re.split(r"&&|[|;]", mention):
            words = part.split()
            if words[0] != "curate":
                continue
            longest = max((key for key in known if f"{' '.join(words)} ".startswith(f"{key} ")), key=len)
            flags = {word.split("=")[0] for word in words if word.startswith("--")}
            extra = {
                flag
                for flag in flags
                if flag.replace("--no-", "--") not in known[longest] and flag not in known[longest]
            }
            is_command = len(words) == 1 or longest != "curate" or words[1].startswith("-")
            if extra or not is_command:
                wrong.append((where, mention, extra))
    assert wrong == []


def test_every_extra_that_is_written_somewhere_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        extra
        for document in DOCUMENTS
        for group in re.findall(r"curate-preferences\[([a-z,]+)\]", document.read_text(encoding="utf-8"))
        for extra in group.split(",")
    }
    assert named and named <= set(extras)


def test_every_heading_of_troubleshooting_is_a_message_of_ours():
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "curate").rglob("*.py"))
    headings = re.findall(r"^### ([a-z0-9].*)$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.M)
    # Numbers and names are put in: what stands between them is the source's.
    parts = [part for heading in headings for part in re.split(r"\d+|\bvllm\b", heading) if part.strip()]
    assert len(parts) > 10
    assert [part for part in parts if part.strip() not in source] == []


def test_every_link_to_a_file_leads_somewhere():
    broken = [
        (name(document), target)
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert broken == []


def test_what_code_says_of_a_document_is_there():
    broken = []
    for path in [*(ROOT / "curate").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        for name, part in re.findall(r"(docs/[\w-]+\.md)(?:, ([A-Z][\w ]+))?", path.read_text(encoding="utf-8")):
            heading = rf"^#+ {re.escape(part.strip())}\b" if part else ""
            file = ROOT / name
            if not file.is_file() or not re.search(heading, file.read_text(encoding="utf-8"), re.MULTILINE):
                broken.append((path.relative_to(ROOT).as_posix(), name, part))
    assert broken == []


def test_completion_prints_a_script():
    # typer asks which shell it was called from: one must be there, whatever runs the tests.
    curate = Path(sys.executable).with_name("curate")
    done = subprocess.run(
        ["bash", "-c", f"'{curate}' --show-completion; exit $?"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "_CURATE_COMPLETE" in done.stdout and "complete -o default -F" in done.stdout


def test_citation_has_what_the_format_asks_for():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and {"message", "title", "authors"} <= set(citation)
    arxiv = {reference["identifiers"][0]["value"] for reference in citation["references"]}
    assert arxiv == {"arXiv:2603.22829", "arXiv:2503.03710", "arXiv:2403.02475"}
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= set(reference)
        assert all({"given-names", "family-names"} == set(author) for author in reference["authors"])
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    assert citation["version"] == version == curate.__version__
