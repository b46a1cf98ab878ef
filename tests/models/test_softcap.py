"""Gemma 2's soft-capped attention, which transformers' default attention leaves out."""

import hashlib

import numpy as np
import pytest
import torch
from tiny import byte_tokenizer, forest, small
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from curate.base.files import file_digest
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
    net, model = save(tmp_path, "gemma2", AutoModelForSequenceClassification)
    loaded = load_classifier(model, load_config(model, "rating model"), "float32", "rating model")
    tokens = torch.arange(3, 43)[None]
    assert torch.allclose(loaded(tokens).logits, net(tokens).logits, atol=1e-4)


def test_what_was_computed_without_the_cap_is_not_found_again(tmp_path):
    """Answers and verdicts are kept by the digest, which stays that of the files for every other model."""
    files = ["config.json", "model.safetensors"]
    for folder, kind in (("capped", "gemma2"), ("plain", "llama")):
        AutoModelForCausalLM.from_config(small(kind)).save_pretrained(tmp_path / folder)
        byte_tokenizer().save_pretrained(tmp_path / folder)
        of_files = hashlib.sha256()
        for name in files:
            of_files.update(f"{name} {file_digest(tmp_path / folder / name)}\n".encode())
        same = resolve(tmp_path / folder).digest == of_files.hexdigest()[:32]
        assert same == (folder == "plain")
