"""Sharded over two processes (FSDP2, gloo), a policy gives the loss, gradients and step that it gives whole.

`accelerate` has no FSDP on CPUs but for what wraps the model, which is its own. The processes have three and five
sequences, each a pack or bucket of its own where there may be several.
"""

import pickle
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from torch.distributed.fsdp import MixedPrecisionPolicy

from curate.base import light
from curate.base.errors import UsageError
from curate.training.sharding import check_one_pass
from curate.training.trainer import PairTrainer

TESTS = Path(__file__).resolve().parents[1]
CASES = {
    "packed": ("qwen2", {"tie_word_embeddings": True}, {}),
    "untied, checkpointed": ("llama", {}, {"gradient_checkpointing": True}),
    "soft-capped head": ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": 3.0}, {}),
    "padded": ("granite", {"logits_scaling": 8.0, "attention_multiplier": 0.25}, {}),
    "adapters": ("llama", {}, {"lora": True}),
}

SHARDED = """
import datetime, os, pickle, sys, types
os.environ["ACCELERATE_USE_FSDP"] = "true"
import curate.base.threads
import torch, torch.distributed as dist, torch.multiprocessing as mp
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from tiny import forest, small
from curate.training import work
from curate.training.policy import add_lora, as_plain, make_policy
from curate.training.sharding import check_one_pass, keep_sums
from curate.training.work import Work
from transformers import AutoModelForCausalLM
import peft

STEPS = 2


def policy_of(kind, more, options):
    torch.manual_seed(0)
    options = dict(options)
    lora, dtype = options.pop("lora", False), options.pop("dtype", torch.float32)
    policy = make_policy(AutoModelForCausalLM.from_config(small(kind, **more)).to(dtype), **options)
    check_one_pass(policy)
    if lora:
        policy = add_lora(policy, 4, 8.0, ["all-linear"])
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    return policy.train()


def shard(policy, mesh, precision="no"):
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="TRANSFORMER_BASED_WRAP", reshard_after_forward=True,
        state_dict_type="FULL_STATE_DICT", cpu_ram_efficient_loading=False,
    )
    if precision != "no":
        plugin.set_mixed_precision(precision)
    keep_sums(plugin)
    accelerator = types.SimpleNamespace(
        state=types.SimpleNamespace(fsdp_plugin=plugin), mixed_precision=precision, is_main_process=True,
        torch_device_mesh=mesh, parallelism_config=types.SimpleNamespace(fsdp_dim_names=("shards",)),
        device=torch.device("cpu"),
    )
    assert fsdp2_prepare_model(accelerator, policy) is policy
    assert all(isinstance(weight, DTensor) for weight in policy.parameters())


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
    patience = datetime.timedelta(seconds=30)  # processes that make different numbers of passes wait for each other
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2, timeout=patience)
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("shards",))
    work.PACK_TOKENS["cpu"], work.PADDING = 1, 1.0
    halves = [Work(forest()[:3]), Work(forest()[3:])]
    found = {}
    for name, case in cases.items():
        policy = policy_of(*case)
        shard(policy, mesh)
        losses, gradients, weights = steps(policy, [halves[rank]])
        dist.all_reduce(losses)
        # As accelerate gathers the model, and `train` puts it into a fresh one to be saved.
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, cpu_offload=True)
        gathered = get_model_state_dict(policy, options=options)
        if rank == 0:
            fresh = policy_of(*case)
            fresh.load_state_dict(gathered)
            found[name] = (losses / 2, gradients, weights, as_plain(fresh).state_dict())
    halved = {}
    for name, options in (("whole", {}), ("adapters", {"lora": True, "dtype": torch.bfloat16})):
        policy = policy_of("llama", {}, options)
        with torch.no_grad():
            before = policy(work=halves[rank])["logps"]
        shard(policy, mesh, "bf16")
        after = policy(work=halves[rank])["logps"]
        after.mean().backward()
        gradients = [weight.grad.dtype for weight in policy.parameters() if weight.requires_grad]
        halved[name] = before, after.detach(), set(gradients)
    if rank == 0:
        expected = {}
        for name, case in cases.items():
            policy = policy_of(*case)
            expected[name] = (*steps(policy, halves), as_plain(policy).state_dict())
        with open(out, "wb") as file:
            pickle.dump((found, expected, halved), file)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    rendezvous, out, cases = sys.argv[1], sys.argv[2], pickle.loads(bytes.fromhex(sys.argv[3]))
    mp.start_processes(run, (rendezvous, cases, out), nprocs=2, start_method="fork")
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """{case: (losses, gradients, weights, the model that is saved)}: sharded, whole; and of bfloat16 {what trains:
    (log-probs before sharding, sharded, dtypes of gradients)}."""
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
    sharded, whole = (one[case] for one in results[:2])
    assert (sharded[0] - whole[0]).abs().max() < 1e-5
    assert whole[0][0] != whole[0][1]
    for ours, theirs in zip(sharded[1:], whole[1:], strict=True):
        size = max(tensor.norm() for tensor in theirs.values())
        assert ours.keys() == theirs.keys() and len(ours) > 10
        for name, tensor in theirs.items():
            assert (ours[name] - tensor).norm() <= 1e-5 * max(tensor.norm(), 1e-2 * size), name


@pytest.mark.slow
@pytest.mark.parametrize("trains", ["whole", "adapters"])
def test_in_bfloat16_sums_over_a_response_stay_float32(trains, results):
    before, sharded, gradients = results[2][trains]
    assert sharded.dtype == torch.float32 and gradients == {torch.float32}
    assert (sharded - before).abs().max() < 5e-3 * before.abs().max()
    assert (sharded != sharded.bfloat16()).all()


def test_the_trainer_keeps_float32_what_accelerate_would_round(monkeypatch):
    """As accelerate prepares the plugin where train.dtype is bfloat16."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2)

    def create(trainer):
        trainer.is_fsdp_enabled = True
        trainer.accelerator = SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin))

    monkeypatch.setattr(light.transformers.Trainer, "create_accelerator_and_postprocess", create)
    for precision, expected in ((None, None), ("bf16", MixedPrecisionPolicy(torch.bfloat16, torch.float32))):
        if precision:
            plugin.set_mixed_precision(precision)
            assert plugin.mixed_precision_policy.output_dtype == torch.bfloat16
        object.__new__(PairTrainer).create_accelerator_and_postprocess()
        assert plugin.mixed_precision_policy == expected


def test_a_model_that_padding_disturbs_is_refused():
    """Packs do not suit it, and its rotary embedding stretches with the longest of a pass."""
    for packs, beyond, refused in ((False, 32, True), (False, float("inf"), False), (True, 32, False)):
        policy = SimpleNamespace(curate_packs=packs, curate_unpadded_beyond=beyond)
        with pytest.raises(UsageError, match="cannot train under FSDP") if refused else nullcontext():
            check_one_pass(policy)
