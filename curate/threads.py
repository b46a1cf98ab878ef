"""Imported before torch by whatever starts a process: OpenMP threads that wait give their core away.

Spinning threads make two busy processes on the same cores tens of times slower (2 cores, two training loops:
3.2 s a step spinning, 0.16 s passive); alone, passive ones cost about a tenth. Nothing is changed that the
user has set.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
