#!/bin/sh
# Everything that a machine without a GPU cannot tell, in ten minutes at most, fifteen with vLLM. benchmarks/gpu.md says what it needs.
set -eu
out=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$out:$out/benchmarks${PYTHONPATH:+:$PYTHONPATH}"
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=true PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" "$out/benchmarks/gpu.py" "$@"
