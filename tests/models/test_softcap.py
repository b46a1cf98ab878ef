"""Gemma 2's soft-capped attention, which transformers' default attention leaves out."""

import numpy as np
import pytest
import torch
from tiny import byte_tokenizer, forest, small

from curate.models.classifiers import load_classifier, load_config
from curate.models.resolve import resolve
from curate.scoring.engines.transformers import TransformersEngine

CAPS = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0}


def save(folder, kind, make):
    """The plain model, with the attention that its makers wrote out, and its folder."""
    torch.manual_seed(0)
    net = make.from_config(small(kind, **CAPS, num_labels=1), attn_implementation="eager").eval()
    net.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return net, resolve(folder)


@pytest.mark.parametrize("kind", ["gemma2", "vaultgemma"])
@torch.no_grad()
def test_scores_are_those_of_capped_attention(kind, tmp_path):
    from transformers import AutoModelForCausalLM

    net, model = save(tmp_path, kind, AutoModelForCausalLM)
    sequences = forest()
    expected = []
    for prompt, response in sequences:
        both = torch.from_numpy(np.concatenate([prompt, response]).astype(np.int64))[None]
        logps = net(both).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
        expected.append(logps.gather(1, both[0, len(prompt) :, None]).sum().item())
    assert np.abs(TransformersEngine(model, "float32").logps(sequences) - expected).max() < 1e-3


@torch.no_grad()
def test_ratings_are_those_of_capped_attention(tmp_path):
    from transformers import AutoModelForSequenceClassification

    net, model = save(tmp_path, "gemma2", AutoModelForSequenceClassification)
    loaded = load_classifier(model, load_config(model, "rating model"), "float32", "rating model")
    tokens = torch.arange(3, 43)[None]
    assert torch.allclose(loaded(tokens).logits, net(tokens).logits, atol=1e-4)
