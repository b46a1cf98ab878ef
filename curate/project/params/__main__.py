"""`python -m curate.project.params` prints params.yaml with the defaults."""

import sys

from curate.project.params import Params, to_yaml

sys.stdout.write(to_yaml(Params()))
