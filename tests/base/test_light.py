"""What loads a model leaves scikit-learn out of it, and takes it from nobody else."""

import subprocess
import sys

CODE = """
import sys
import curate.training.train
from transformers import Qwen2ForCausalLM
assert "sklearn" not in sys.modules
import sklearn.metrics
"""


def test_transformers_comes_without_scikit_learn():
    subprocess.run([sys.executable, "-c", CODE], check=True)
