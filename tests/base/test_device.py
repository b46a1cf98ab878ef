"""What is set of torch for a while is as it was afterwards."""

import pytest
import torch
from torch.utils import deterministic

from curate.base import device
from curate.base.device import as_deterministic_as_before


@pytest.mark.parametrize("warns", [True, False])
@pytest.mark.parametrize("enabled", [True, False])
def test_deterministic_kernels_are_as_they_were(enabled, warns):
    with as_deterministic_as_before():
        torch.use_deterministic_algorithms(enabled, warn_only=warns)
        deterministic.fill_uninitialized_memory = enabled
        state = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        with as_deterministic_as_before():
            torch.use_deterministic_algorithms(True)
            deterministic.fill_uninitialized_memory = False
        assert deterministic.fill_uninitialized_memory is enabled
        now = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        assert now == state


def test_on_a_gpu_attention_goes_without_cudnn(monkeypatch):
    """cuDNN would make a plan for each length of a batch."""
    monkeypatch.setattr(device, "device_type", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    enabled = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        torch.backends.cuda.enable_cudnn_sdp(True)
        assert str(device.device()) == "cuda:0" and not torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(enabled)
