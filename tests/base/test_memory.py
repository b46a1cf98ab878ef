"""Freed memory is kept for the next step, and given back between two models."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes
from curate.base import memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

memory.keep_freed()
import torch
before = resident()
small, large = [], []
for _ in range(60):
    large.append(torch.ones(2**20))
    small.append(torch.ones(2**8))  # in between, and still needed
full = resident()
del large
kept = resident()
memory.give_back()
print(full - before > 200, kept - before > 200, resident() - before < 60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_what_is_freed_is_kept_until_it_is_given_back():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]
