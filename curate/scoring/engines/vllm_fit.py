"""Whether vLLM can run a model, asked of vLLM itself before it loads one."""

from __future__ import annotations

from curate.base.device import device_type
from curate.models.resolve import Model
from curate.scoring.engines.vllm import ADAPTER, imported, prepared, settings_of
from curate.scoring.engines.vllm_log import into_log, said


def fault(model: Model, dtype: str) -> str | None:
    """Why it cannot, in a few words; None where nothing speaks against it. Takes some seconds: vLLM is imported.

    vLLM makes its configuration of the model's: that fails for an architecture or a dtype that it does not know. The
    attention of a CPU knows some head sizes only, which it says when the model is built, too late to turn back.
    """
    if model.adapter:
        return ADAPTER
    prepared()
    with into_log():
        try:
            imported()
            from vllm.engine.arg_utils import EngineArgs

            config = EngineArgs(str(model.path), **settings_of(model, dtype)).create_engine_config()
            return _attention_fault(config) if device_type() == "cpu" else None
        except Exception as error:  # of whatever kind: it would be met again when the model is loaded
            return said(error)


def _attention_fault(config: object) -> str | None:
    """Why the attention of a CPU does not suit the model."""
    model = config.model_config  # type: ignore[attr-defined]
    try:
        from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

        known = list(CPUAttentionBackend.get_supported_head_sizes())
    except (ImportError, AttributeError):  # another version: it will tell by itself
        return None
    size = model.get_head_size()
    if model.use_mla or size in known:
        return None
    return f"its attention heads have {size} numbers each, and vLLM's on a CPU {', '.join(map(str, known))}"
