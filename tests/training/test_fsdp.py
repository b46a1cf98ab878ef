"""Sharded over two processes (FSDP2, gloo), a policy gives the loss, gradients and step that it gives whole.

`accelerate` has no FSDP on CPUs, so the sharding is torch's own, as accelerate's plugin would have it.
"""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
CASES = {
    "packed": ("qwen2", {"tie_word_embeddings": True}, {}),
    "untied, checkpointed": ("llama", {}, {"gradient_checkpointing": True}),
    "soft-capped head": ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": 3.0}, {}),
    "padded": ("granite", {"logits_scaling": 8.0, "attention_multiplier": 0.25}, {}),
    "adapters": ("llama", {}, {"lora": True}),
}

SHARDED = """
import pickle, sys
import curate.base.threads
import torch, torch.distributed as dist, torch.multiprocessing as mp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from tiny import forest, small
from curate.training.policy import add_lora, as_plain, make_policy
from curate.training.work import Work
from transformers import AutoModelForCausalLM
import peft

STEPS = 2


def policy_of(kind, more, options):
    torch.manual_seed(0)
    options = dict(options)
    lora = options.pop("lora", False)
    policy = make_policy(AutoModelForCausalLM.from_config(small(kind, **more)), **options)
    if lora:
        policy = add_lora(policy, 4, 8.0, ["all-linear"])
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    return policy.train()


def whole(tensor):
    if tensor is None:
        return None
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def steps(policy, works):
    # (losses, gradients of the first step, weights after the last)
    weights = {name: w for name, w in policy.named_parameters() if w.requires_grad}
    optimizer = torch.optim.AdamW(weights.values(), lr=1e-3, eps=1e-3)
    losses, gradients = [], None
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = torch.stack([policy(work=work)["logps"].mean() for work in works]).mean() / 100
        loss.backward()
        if gradients is None:
            gradients = {name: whole(weight.grad) for name, weight in weights.items()}
        losses.append(loss.detach())
        optimizer.step()
    return torch.stack(losses), gradients, {name: whole(weight) for name, weight in weights.items()}


def run(rank, rendezvous, cases, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    halves = [Work(forest()[:4]), Work(forest()[4:])]
    found = {}
    for name, case in cases.items():
        policy = policy_of(*case)
        model = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        fully_shard(policy, mesh=mesh, reshard_after_forward=True)
        assert all(isinstance(weight, DTensor) for weight in policy.parameters())
        losses, gradients, weights = steps(policy, [halves[rank]])
        dist.all_reduce(losses)
        # As accelerate gathers the model, and `train` puts it into a fresh one to be saved.
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, cpu_offload=True)
        gathered = get_model_state_dict(policy, options=options)
        if rank == 0:
            fresh = policy_of(*case)
            fresh.load_state_dict(gathered)
            found[name] = (losses / 2, gradients, weights, as_plain(fresh).state_dict())
    if rank == 0:
        expected = {}
        for name, case in cases.items():
            policy = policy_of(*case)
            expected[name] = (*steps(policy, halves), as_plain(policy).state_dict())
        with open(out, "wb") as file:
            pickle.dump((found, expected), file)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    rendezvous, out, cases = sys.argv[1], sys.argv[2], pickle.loads(bytes.fromhex(sys.argv[3]))
    mp.start_processes(run, (rendezvous, cases, out), nprocs=2, start_method="fork")
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """{case: (losses, gradients, weights, the model that is saved)}: (sharded, whole)."""
    folder = tmp_path_factory.mktemp("fsdp")
    arguments = [str(folder / "rendezvous"), str(folder / "out"), pickle.dumps(CASES).hex()]
    done = subprocess.run(
        [sys.executable, "-c", SHARDED, *arguments], cwd=TESTS, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return pickle.loads((folder / "out").read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_shards_train_as_the_whole(case, results):
    sharded, whole = (one[case] for one in results)
    assert (sharded[0] - whole[0]).abs().max() < 1e-5
    assert whole[0][0] != whole[0][1]
    for ours, theirs in zip(sharded[1:], whole[1:], strict=True):
        size = max(tensor.norm() for tensor in theirs.values())
        assert ours.keys() == theirs.keys() and len(ours) > 10
        for name, tensor in theirs.items():
            assert (ours[name] - tensor).norm() <= 1e-5 * max(tensor.norm(), 1e-2 * size), name
