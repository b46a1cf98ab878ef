"""The script that waits for a GPU, with tiny sizes on this machine: every section of it runs."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = [
    *("machine", "parity", "scoring", "training", "lora", "fsdp", "divergence", "generation", "vllm_answers"),
    *("pack_attention", "vllm", "vllm_old_runner", "vllm_server", "study"),
]


@pytest.mark.slow
def test_every_section_runs_and_what_fails_stops_no_other(tmp_path):
    study = tmp_path / "study.py"
    study.write_text("import sys\nprint('half way')\nsys.exit('no data')\n")
    done = subprocess.run(
        ["sh", ROOT / "benchmarks/gpu.sh", "--tiny", "--out", tmp_path / "out", "--study", study],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=os.environ | {"PYTHON": sys.executable, "CURATE_STATE": str(tmp_path / "state")},
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out/gpu.json").read_text())["sections"]
    assert {name: section.get("error") for name, section in record.items()} == dict.fromkeys(record)
    rows = {name: section["rows"] for name, section in record.items()}
    assert list(rows) == SECTIONS
    parity = {(row["dtype"], row["way"]): row["max, nats/token"] for row in rows["parity"]}
    assert len(parity) == 6 and all(parity["float32", way] < 1e-4 for way in ("packs", "one length", "padded"))
    assert all(0 < parity["bfloat16", way] < 0.2 for way in ("packs", "one length", "padded"))
    assert {row["way"] for row in rows["scoring"]} >= {"packs", "one length", "padded"}
    assert {row["trainer"] for row in rows["training"]} >= {"curate", "curate-padded"}
    firsts = [row["first loss"] for row in rows["training"] if row["dtype"] == "float32"]
    assert firsts == pytest.approx([firsts[0]] * len(firsts), rel=1e-4)
    assert [row["phase"] for row in rows["lora"]] == ["make a random 7B", "score", "train"]
    plain, launched = rows["fsdp"]
    assert not plain["note"] and launched["after"] == pytest.approx(plain["after"], rel=1e-5)
    kl = {(row["what"], row["dtype"]): row["KL"] for row in rows["divergence"]}
    assert abs(kl["KL, the reference itself", "float32"]) < 1e-4 < kl["KL, moved", "float32"] < math.inf
    assert rows["pack_attention"][0]["max apart"] < 1e-5
    _, scored, prefill = rows["vllm"]
    assert scored["max, nats/token"] < 1e-4 and prefill["tokens/s"] > 0
    assert [row["as by transformers"] for row in rows["vllm_answers"] if row.get("temperature") == 0] == ["6 of 6"]
    assert rows["vllm_server"][1]["max, nats/token"] < 1e-4
    assert rows["study"] == [{"script": "study.py", "exit code": 1, "note": "half way"}]
    page = (tmp_path / "out/gpu.md").read_text()
    assert page.count("\n## ") == len(rows) and "| packs |" in page
