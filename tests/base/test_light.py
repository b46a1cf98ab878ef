"""What loads a model leaves scikit-learn and SciPy out of it, and takes it from nobody else."""

import subprocess
import sys

CODE = """
import sys
import curate.training.train
from transformers import Qwen2ForCausalLM
assert not {"sklearn", "scipy"} & set(sys.modules)
import sklearn.metrics
import scipy.stats
"""


def test_transformers_comes_without_scikit_learn_and_scipy():
    subprocess.run([sys.executable, "-c", CODE], check=True)
