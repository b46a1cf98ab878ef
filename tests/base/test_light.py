"""What loads a model leaves scikit-learn and SciPy out of it, and takes them from nobody else."""

import subprocess
import sys

import imports
from tiny import save_model

CODE = """
import sys
from pathlib import Path
import curate.scoring.runners
from curate.models.rendering import load_tokenizer
from curate.models.resolve import resolve
load_tokenizer(resolve(Path(sys.argv[1])))
import curate.training.train
from transformers import Qwen2ForCausalLM
assert not {"sklearn", "scipy"} & set(sys.modules)
import sklearn.metrics
import scipy.stats
"""


def test_transformers_comes_without_scikit_learn_and_scipy(tmp_path):
    """Where a tokenizer comes first, too, as in scoring and evaluation."""
    subprocess.run([sys.executable, "-c", CODE, save_model(tmp_path / "model")], check=True)


def test_transformers_is_taken_from_there_alone():
    """Who imports it first decides what comes with it."""
    by_itself = {
        module
        for module, path in imports.modules().items()
        if any(name.split(".")[0] == "transformers" for name in imports.names(module, path))
    }
    assert by_itself == {"curate.base.light"}
