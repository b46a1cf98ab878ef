"""Packs give what each sequence gives alone, whatever stands beside it."""

import copy
import platform
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from narrow import compiled_with
from tiny import byte_tokenizer, forest, ids, little_memory, save_model, small, told_of_memory

from curate.base import native
from curate.base.errors import InputError
from curate.models.products.head import token_logps
from curate.models.rendering import TokenSequence
from curate.models.resolve import resolve
from curate.scoring.engines.transformers import TransformersEngine
from curate.scoring.packing import attention, head, probe
from curate.scoring.packing.head import COLUMNS, Head
from curate.scoring.packing.last import trim
from curate.scoring.packing.packs import packs
from curate.scoring.packing.pieces import Plan
from curate.scoring.packing.tree import Tree, kernels


def alone(engine, sequences):
    """One sequence at a time through the model's own forward pass and a float64 softmax."""
    out = []
    for prompt, response in sequences:
        both = torch.from_numpy(np.concatenate([prompt, response]).astype(np.int64))[None]
        with torch.no_grad():
            logps = engine.model(both).logits[0].double().log_softmax(-1)
        out.append(logps[len(prompt) - 1 : -1].gather(1, both[0, len(prompt) :, None]).sum().item())
    return np.array(out)


def save(folder, config):
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return resolve(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return resolve(save_model(tmp_path_factory.mktemp("model")))


@settings(max_examples=60, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 12)), min_size=1, max_size=12),
    st.integers(1, 60),
)
def test_a_pack_has_every_scored_token_once_and_keeps_to_its_budget(shape, budget):
    prompts = ids(1, 4, 9, 9)
    sequences = [TokenSequence(prompts[which], ids(length, seed=length)[0]) for which, length in shape]
    targets: dict[int, list[int]] = {}
    for pack in packs(sequences, budget):
        # One response, which may not fit, is never refused.
        assert len(pack.input_ids) <= budget or len(set(pack.owners)) == 1
        for row, target, owner in zip(pack.rows, pack.targets, pack.owners, strict=True):
            prompt, response = sequences[owner]
            at = len(targets.setdefault(owner, []))
            # The row's own token is the one before the target, at its position, and it sees its own prompt.
            assert pack.position_ids[row] == len(prompt) + at - 1
            assert pack.input_ids[row] == (response[at - 1] if at else prompt[-1])
            assert (pack.input_ids[(pack.roots == pack.roots[row]) & (pack.branches == 0)] == prompt).all()
            targets[owner].append(target)
    assert [targets[number] for number in range(len(sequences))] == [s.response_ids.tolist() for s in sequences]


def test_a_prompt_stands_once_in_a_pack():
    (pack,) = packs(forest(), 1000)
    distinct = 1 + 9 + 40  # and each response but its last token, of which (nine, a) is asked for twice
    assert len(pack.input_ids) == distinct + 11 + 11 + 29 + 29 + 2 + 0 + 0 + 11


ARCHITECTURES = {
    "llama": {},
    "qwen3": {},
    "mistral": {"sliding_window": 7},
    "gemma3_text": {"sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"]},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "olmo2": {},
    "phi3": {},
}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_packs_give_each_sequence_what_it_gives_alone(kind, tmp_path):
    engine = TransformersEngine(save(tmp_path, small(kind, **ARCHITECTURES[kind])), "float32")
    assert engine.head is not None, "this architecture should run packed"
    sequences = forest()
    expected = alone(TransformersEngine(resolve(tmp_path), "float32", packed=False), sequences)
    tokens = np.array([len(sequence.response_ids) for sequence in sequences])
    for budget in (4096, 45, 1):
        engine.budget.tokens = budget
        assert np.abs(engine.logps(sequences) - expected).max() < 1e-5 * tokens.max()


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("gemma2", {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0}),  # soft-capped attention
        ("granite", {"logits_scaling": 8.0}),  # scaled logits
        ("cohere", {"logit_scale": 0.25}),
        ("mamba", {}),  # a state, no attention
        ("mamba2", {"num_heads": 8, "n_groups": 1}),  # a norm that is gated
        ("roberta", {"is_decoder": True}),  # counts positions from another number
        ("recurrent_gemma", {"block_types": ["recurrent", "attention"], "attention_window_size": 16}),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_that_packs_do_not_suit_runs_without_and_is_right(kind, more, dtype, tmp_path, capsys):
    engine = TransformersEngine(save(tmp_path, small(kind, **more)), dtype)
    assert engine.head is None
    assert "without packs" in capsys.readouterr().err
    sequences = forest() + forest(seed=7)
    tokens = np.array([len(sequence.response_ids) for sequence in sequences])
    difference = np.abs(engine.logps(sequences) - alone(engine, sequences)) / tokens
    assert difference.max() < (1e-5 if dtype == "float32" else 0.05)


def test_a_soft_capped_head_is_tiled():
    """Gemma 2's last step without its attention: the tiles cap the logits too."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(16, COLUMNS["cpu"] + 77)
    states, targets = torch.randn(700, 16), torch.randint(0, COLUMNS["cpu"] + 77, (700,))
    for cap in (None, 2.0):
        logits = linear(states).double()
        if cap:
            logits = torch.tanh(logits / cap) * cap
        expected = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
        assert torch.allclose(Head(linear, cap).logps(states, targets).double(), expected, atol=2e-6)


def test_a_rotary_embedding_that_stretches_runs_long_sequences_alone(tmp_path):
    """Phi-3's longrope takes other frequencies when the longest sequence of the batch is beyond 32 tokens."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 8,
        "long_factor": [2.0 + i for i in range(8)],
        "factor": 4.0,
    }
    config = small("phi3", rope_parameters=rope, original_max_position_embeddings=32)
    engine = TransformersEngine(save(tmp_path, config), "float32")
    assert engine.alone_beyond == 32
    plain = TransformersEngine(resolve(tmp_path), "float32", packed=False)
    expected = alone(plain, forest())
    for one in (engine, plain):
        assert np.abs(one.logps(forest()) - expected).max() < 1e-3
    # At the very length where it begins to stretch, too.
    edge = [TokenSequence(*ids(10, total - 10)) for total in (31, 32, 33, 34)]
    assert np.abs(engine.logps(edge) - alone(plain, edge)).max() < 1e-3


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
def test_a_packed_model_goes_beyond_its_original_context(kind, tmp_path):
    """Which lies above what the probe tries: short sequences in packs, long ones by the model's own attention."""
    factors = {"short_factor": [1.0] * 8, "long_factor": [2.0 + i for i in range(8)]} if kind == "longrope" else {}
    rope = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 200, **factors}
    more = {"original_max_position_embeddings": 200} if kind == "longrope" else {}
    config = small("phi3" if kind == "longrope" else "llama", rope_parameters=rope, max_position_embeddings=800, **more)
    engine = TransformersEngine(save(tmp_path, config), "float32")
    assert engine.head is not None and engine.alone_beyond == 200
    plain = TransformersEngine(resolve(tmp_path), "float32", packed=False)
    sequences = [*forest(), *(TokenSequence(*ids(60, total - 60)) for total in (199, 200, 201, 260, 260))]
    tokens = np.array([len(sequence.response_ids) for sequence in sequences])
    for _ in range(2):  # packs again after what was beyond them
        assert (np.abs(engine.logps(sequences) - alone(plain, sequences)) / tokens).max() < 1e-5
    assert engine.model.config._attn_implementation == attention.TREE


LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 16}


@pytest.mark.parametrize(
    ("kind", "more", "unpadded"),
    [
        ("llama", {}, False),
        ("bloom", {}, False),
        ("mamba", {}, False),
        ("rwkv", {"context_length": 128}, True),
        ("cpmant", {}, True),
        ("recurrent_gemma", {"block_types": ["recurrent", "attention"], "attention_window_size": 16}, True),
        ("axk2", {**LATENT, "index_topk": 200, "index_n_heads": 2, "index_head_dim": 32}, True),
    ],
)
def test_padding_that_disturbs_a_model_is_found(kind, more, unpadded):
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(small(kind, **more)).eval()
    assert (probe.padding_fault(model, "float32") is not None) == unpadded


@pytest.mark.parametrize("unpadded", [False, True])
def test_rounding_of_improbable_tokens_is_not_held_against_packs_or_padding(tmp_path, unpadded):
    """In bfloat16 a log-probability of -60 is a multiple of a quarter."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = small("rwkv", context_length=128) if unpadded else small("llama")
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    model.get_output_embeddings().weight.data *= 4
    assert (probe.padding_fault(model, "bfloat16") is not None) == unpadded
    model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    engine = TransformersEngine(resolve(tmp_path), "bfloat16")
    assert (engine.fault is not None) == unpadded


def test_neither_order_nor_company_changes_a_number(model):
    """Within 1e-5 nats a token, float32: less is not had from another batch's GEMM."""
    engine = TransformersEngine(model, "float32")
    sequences = forest() + forest(seed=7)
    tokens = np.array([len(sequence.response_ids) for sequence in sequences])
    whole = engine.logps(sequences)
    one_by_one = np.array([engine.logps([sequence])[0] for sequence in sequences])
    assert np.abs((whole - one_by_one) / tokens).max() < 1e-5
    order = np.random.default_rng(0).permutation(len(sequences))
    shuffled = engine.logps([sequences[number] for number in order])
    assert np.array_equal(shuffled, whole[order]) or np.abs((shuffled - whole[order]) / tokens[order]).max() < 1e-5
    assert np.array_equal(engine.logps(sequences), whole)


def test_a_branch_sees_no_other_branch(model):
    """Other responses and prompts in the pack, of the same lengths, change nothing at all."""
    engine = TransformersEngine(model, "float32")
    prompt, mine, one, other = ids(9, 12, 12, 12)
    kept = TokenSequence(prompt, mine)
    beside_one = engine.logps([kept, TokenSequence(prompt, one), TokenSequence(one, mine)])[0]
    beside_other = engine.logps([kept, TokenSequence(prompt, other), TokenSequence(other, mine)])[0]
    assert beside_one == beside_other


def test_flex_attention_masks_the_same():
    """The CUDA path's mask, run uncompiled on the CPU, against the path by pieces; with and without a window."""
    (pack,) = packs(forest(), 1000)
    torch.manual_seed(0)
    tokens = len(pack.input_ids)
    query, key, value = torch.randn(1, 4, tokens, 16), torch.randn(1, 2, tokens, 16), torch.randn(1, 2, tokens, 16)
    by_flex = attention._flex(pack, torch.device("cpu"), compiled=False)
    by_piece = Plan(pack).attend
    for window in (None, 5):
        ours, theirs = (attend(query, key, value, None, window) for attend in (by_piece, by_flex))
        assert ours.shape == theirs.shape == (1, tokens, 4, 16)
        assert torch.allclose(ours, theirs, atol=1e-5)


def by_definition(pack, query, key, value, window):
    """Attention of a pack [1, heads, T, width] as one dense softmax -> [1, T, heads, width of values]."""
    roots, branches, positions = (torch.from_numpy(part) for part in (pack.roots, pack.branches, pack.position_ids))
    seen = (roots[:, None] == roots) & ((branches == 0) | (branches[:, None] == branches))
    seen &= positions <= positions[:, None]
    if window:
        seen &= positions[:, None] - positions < window
    key, value = (part.repeat_interleave(query.shape[1] // part.shape[1], 1) for part in (key, value))
    scores = (query @ key.mT) / query.shape[-1] ** 0.5
    return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value).transpose(1, 2)


def long_forest():
    """Branches of several chunks: some of one length and one root's, some whose roots differ by a few tokens."""
    short, near, far, *responses = ids(70, 76, 300, 150, 150, 140, 64, 65, 3)
    pairs = [(prompt, response) for prompt in (short, near) for response in responses] + [(far, responses[0])]
    return [TokenSequence(*pair) for pair in pairs]


@pytest.mark.parametrize("sequences", [forest(), long_forest()], ids=["short", "long"])
@pytest.mark.parametrize("window", [None, 5, 100])
@pytest.mark.parametrize(("heads", "widths"), [((4, 2), (16, 16)), ((3, 3), (24, 16)), ((5, 1), (16, 80))], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("way", ["C", "torch"])
def test_attention_and_its_gradients_are_those_of_one_softmax(way, dtype, heads, widths, window, sequences):
    (pack,) = packs(sequences, 10_000)
    states = some_states(pack, heads, widths, dtype)
    same = [part.detach().double().requires_grad_() for part in states]
    expected = by_definition(pack, *same, window)
    found = (Tree(pack, kernels()) if way == "C" else Plan(pack)).attend(*states, None, window)
    slope = torch.randn(found.shape).to(dtype)
    ours = torch.autograd.grad(found, states, slope)
    theirs = torch.autograd.grad(expected, same, slope.double())
    tolerance = 1e-5 if dtype == torch.float32 else 0.01
    for one, other in zip((found, *ours), (expected, *theirs), strict=True):
        assert one.dtype == dtype and (one - other).norm() <= tolerance * other.norm()


def some_states(pack, heads, widths, dtype=torch.float32):
    """Query, key and value, with gradients. Queries are long: attention is sharp here and flat there."""
    torch.manual_seed(0)
    tokens = len(pack.input_ids)
    shapes = [(heads[0], tokens, widths[0]), (heads[1], tokens, widths[0]), (heads[1], tokens, widths[1])]
    parts = zip((4, 1, 1), shapes, strict=True)
    return [(scale * torch.randn(1, *shape)).to(dtype).requires_grad_() for scale, shape in parts]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("window", [None, 5])
def test_threads_and_company_change_no_bit_of_attention(window, dtype):
    """Tree by tree and head by head, or all at once; a tree alone, or among others."""
    sequences = long_forest()
    (pack,) = packs(sequences, 10_000)
    states = some_states(pack, (6, 2), (32, 32), dtype)
    found = []
    threads = torch.get_num_threads()
    for number in (1, 3):
        torch.set_num_threads(number)
        out = Tree(pack, kernels()).attend(*states, None, window)
        found.append((out, *torch.autograd.grad(out.square().sum(), states)))
    torch.set_num_threads(threads)
    assert all(torch.equal(*parts) for parts in zip(*found, strict=True))
    start, length = pack.prompts[0]
    (alone,) = packs([sequence for sequence in sequences if len(sequence.prompt_ids) == length], 10_000)
    assert alone.input_ids.tolist() == pack.input_ids[: len(alone.input_ids)].tolist() and start == 0
    cut = [part[:, :, : len(alone.input_ids)] for part in states]
    assert torch.equal(Tree(alone, kernels()).attend(*cut, None, window), found[0][0][:, : len(alone.input_ids)])


def test_attention_of_large_products_and_of_none():
    """The largest of a row is taken off before its exponentials; a token that sees itself alone has its own value."""
    (pack,) = packs(long_forest(), 10_000)
    query, key, value = some_states(pack, (2, 2), (64, 64))
    found = Tree(pack, kernels()).attend(query * 100, key * 100, value, None, None)
    expected = by_definition(pack, (100 * query).double(), (100 * key).double(), value.double(), None)
    assert torch.isfinite(found).all() and (found - expected).norm() <= 1e-3 * expected.norm()
    assert torch.allclose(Tree(pack, kernels()).attend(query, key, value, None, 1), value.transpose(1, 2))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="has no such vectors")
@pytest.mark.parametrize("vectors", ["-mno-avx512f", "-mno-avx", "-mno-avx512bf16"])
def test_attention_with_narrower_vectors(vectors, tmp_path):
    """And on a processor that does not multiply bfloat16: by float32, whose sums are nearer."""
    (pack,) = packs(long_forest(), 10_000)
    states = some_states(pack, (6, 2), (48, 80))
    expected = Tree(pack, kernels()).attend(*states, None, None)
    slope = torch.randn(expected.shape)
    with compiled_with(vectors, tmp_path):
        narrow = kernels.__wrapped__()
    assert not narrow.half
    if "bf16" in vectors:
        halves = [state.detach().bfloat16().requires_grad_() for state in states]
        exact = by_definition(pack, *(state.double() for state in halves), None)
        errors = [(Tree(pack, each).attend(*halves, None, None) - exact).norm() for each in (narrow, kernels())]
        assert errors[0] < 0.003 * exact.norm() and errors[0] <= errors[1]
        return
    found = Tree(pack, narrow).attend(*states, None, None)
    gradients = (torch.autograd.grad(one, states, slope) for one in (found, expected))
    for one, other in ((found, expected), *zip(*gradients, strict=True)):
        assert 0 < (one - other).norm() <= 1e-5 * other.norm()  # sums in another order


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("which", range(3), ids=["query", "key", "value"])
def test_what_is_no_number_stays_none_in_attention(which, dtype):
    (pack,) = packs(long_forest(), 10_000)
    states = some_states(pack, (2, 1), (16, 16), dtype)
    with torch.no_grad():
        states[which][:, :, 5, 3] = torch.nan
    found = Tree(pack, kernels()).attend(*states, None, 50).isnan().any(-1)
    expected = by_definition(pack, *states[:2], torch.ones_like(states[2]), 50).isnan().any(-1)
    if which == 2:
        assert found[:, 5:55].all()  # of the prompt, what sees it
    else:
        assert found.any() and torch.equal(found, expected)


def test_without_a_compiler_torch_attends(monkeypatch, model):
    expected = TransformersEngine(model, "float32").logps(forest())
    assert kernels()
    monkeypatch.setenv(native.VARIABLE, "")
    native.load.cache_clear()
    kernels.cache_clear()
    try:
        said = []
        engine = TransformersEngine(model, "float32", tell=said.append)
        assert not kernels() and "C compiler" in said[0]
        assert np.allclose(engine.logps(forest()), expected, atol=1e-3)
    finally:
        native.load.cache_clear()
        kernels.cache_clear()


def test_the_last_layer_runs_behind_its_attention_on_what_predicts_alone(model):
    engine = TransformersEngine(model, "float32")
    (pack,) = packs(forest(), 1000)
    layers, rows = engine.model.model.layers, {}

    def count(key):
        return lambda _, __, made: rows.update({key: int(made.any(-1).sum())})

    for number, layer in enumerate(layers):
        for name in ("self_attn.o_proj", "mlp.down_proj"):
            layer.get_submodule(name).register_forward_hook(count((number, name)))
    engine._one_pack(pack)
    assert len(set(pack.rows)) < len(pack.input_ids)
    for (number, _), count in rows.items():
        assert count == (len(set(pack.rows)) if number == len(layers) - 1 else len(pack.input_ids))


def test_a_copy_of_a_trimmed_model_has_weights_of_its_own():
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(small("llama"))
    trim(model)
    other = copy.deepcopy(model)
    torch.nn.init.zeros_(other.model.layers[-1].mlp.down_proj.weight)
    (pack,) = packs(forest(), 1000)
    states = torch.randn(1, len(pack.input_ids), model.config.hidden_size)
    with attention.attending(pack, torch.device("cpu")), torch.no_grad():
        found, copied = (one.model.layers[-1].mlp(states)[0].any(-1) for one in (model, other))
    assert found.nonzero().flatten().tolist() == sorted(set(pack.rows.tolist()))
    assert not copied.any()


def test_a_module_that_another_library_has_hooked_is_left_alone():
    """As accelerate does where a model lies on several devices: its `forward` is no method any more."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(small("llama"))
    mlp = model.model.layers[-1].mlp
    mlp.forward = hooked = partial(type(mlp).forward, mlp)
    trim(model)
    assert mlp.forward is hooked and "forward" in vars(model.model.layers[-1].self_attn.o_proj)


def test_bfloat16_stays_near_float32(model):
    tokens = np.array([len(sequence.response_ids) for sequence in forest()])
    single, half = (TransformersEngine(model, dtype).logps(forest()) / tokens for dtype in ("float32", "bfloat16"))
    assert 0 < np.abs(single - half).max() < 0.2


def test_probe_fits_one_pack():
    (pack,) = packs(probe.sequences(10, 0), 1024)
    assert len(pack.input_ids) > 128  # what the attention kernel of long queries starts at


def test_an_attention_that_takes_more_than_packs_know_is_refused(model, monkeypatch, capsys):
    """Whatever a model hands to its attention and packs would drop."""
    from transformers.models.qwen2 import modeling_qwen2

    forward = modeling_qwen2.Qwen2Attention.forward
    monkeypatch.setattr(
        modeling_qwen2.Qwen2Attention, "forward", lambda self, *a, **k: forward(self, *a, **k, block_indices=1)
    )
    assert TransformersEngine(model, "float32").head is None
    assert "its attention takes block_indices" in capsys.readouterr().err


@pytest.mark.parametrize("packed", [True, False])
def test_a_pass_that_does_not_fit_the_memory_is_halved(model, monkeypatch, capsys, packed):
    engine = TransformersEngine(model, "float32", packed=packed)
    sequences = [sequence for seed in range(30) for sequence in forest(seed)]
    expected = engine.logps(sequences)
    asked = little_memory(monkeypatch, engine.model, 700)
    told_of_memory(capsys)
    assert np.abs(engine.logps(sequences) - expected).max() < 1e-4
    assert max(asked) > 700 and engine.budget.tokens == 512
    assert told_of_memory(capsys) == [
        "score: 2,048 tokens at once do not fit the device's memory; it goes on with 512",
    ]
    del asked[:]
    engine.logps(sequences)
    assert max(asked) <= 700 and not told_of_memory(capsys)
    little_memory(monkeypatch, engine.model, 10)
    with pytest.raises(InputError, match="a batch does not fit the device's memory") as caught:
        engine.logps(sequences)
    assert caught.value.details["file"] == str(model.path) and "tokens at once: tried 512;" in str(caught.value)


@pytest.mark.parametrize("packed", [True, False])
def test_what_was_scored_before_the_memory_ran_out_is_kept(model, monkeypatch, capsys, packed):
    engine = TransformersEngine(model, "float32", packed=packed)
    engine.workers = 1  # passes one after the other
    sequences = [sequence for seed in range(90) for sequence in forest(seed)]
    whole = little_memory(monkeypatch, engine.model, 10_000)
    expected, needed = engine.logps(sequences), sum(whole)
    asked = little_memory(monkeypatch, engine.model, 700, after=3)
    told_of_memory(capsys)
    assert np.abs(engine.logps(sequences) - expected).max() < 1e-4
    kept, later = sum(asked[:3]), sum(tokens for tokens in asked[3:] if tokens <= 700)
    assert len(told_of_memory(capsys)) == 1 and kept > needed / 8
    assert abs(kept + later - needed) < kept / 8  # other packs share a prompt more often, or less


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.16 GiB.\npages")


@pytest.mark.parametrize("error", [FULL, RuntimeError("DefaultCPUAllocator: can't allocate memory: 7 bytes.\npages")])
@pytest.mark.parametrize("packed", [True, False])
def test_memory_that_runs_out_while_packs_or_padding_are_tried_is_told(model, monkeypatch, packed, error):
    engine = TransformersEngine(model, "float32", packed=False)
    base = type(engine.model.base_model)
    forward = base.forward

    def full(self, input_ids=None, **more):
        if input_ids.numel() > 150:  # those together, whose failure may mean that they do not suit
            raise error
        return forward(self, input_ids=input_ids, **more)

    monkeypatch.setattr(base, "forward", full)
    with pytest.raises(InputError, match="does not fit the device's memory") as caught:
        TransformersEngine(model, "float32") if packed else probe.padding_fault(engine.model, "float32")
    assert caught.value.details["file"] == str(model.path) and "pages" not in caught.value.details["found"]


def test_a_token_that_the_model_does_not_know_is_refused(model):
    """The last token of a response is embedded nowhere: it would have got a number."""
    engine = TransformersEngine(model, "float32")
    known = len(engine.model.get_input_embeddings().weight)
    ((response,),) = [ids(5)]
    engine.logps([TokenSequence(*ids(4), np.append(response, known - 1).astype(np.int32))])
    with pytest.raises(InputError, match="the tokenizer has tokens that the model does not know") as caught:
        engine.logps([TokenSequence(*ids(4), np.append(response, known).astype(np.int32))])
    assert caught.value.details["found"] == f"token {known}" and caught.value.details["file"] == str(model.path)
    assert Head(torch.nn.Linear(8, 10)).logps(torch.randn(1, 8), torch.tensor([10])).isnan().all()


def test_a_compiled_kernel_may_have_more_variants_than_torchs_8(monkeypatch):
    """Gradients, autocast, windows and short packs of one run come to 12; beyond the limit it would run uncompiled."""
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 8)
    attention._compiled_flex()
    assert torch._dynamo.config.recompile_limit == attention.VARIANTS


@pytest.mark.filterwarnings("error")
def test_tiles_that_are_not_repacked_give_the_same_and_warn_of_nothing(monkeypatch):
    """As on a GPU."""
    linear = torch.nn.Linear(16, COLUMNS["cpu"] + 5)
    states, targets = torch.randn(7, 16), torch.arange(7) + COLUMNS["cpu"] - 3
    expected = Head(linear).logps(states, targets)
    monkeypatch.setattr(head, "repacks", lambda _: False)
    assert torch.allclose(Head(linear).logps(states, targets), expected, atol=2e-6)


def test_a_certain_token_is_no_more_than_certain():
    """The store drops what is above 0. One logit of 40 to 90, all others near 0."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(16, COLUMNS["cpu"] * 2 + 5, bias=False)
    direction = torch.nn.functional.normalize(torch.randn(16), dim=0)
    with torch.no_grad():
        linear.weight.mul_(0.01)[7] = 20 * direction
    states, targets = torch.linspace(2, 4.5, 512)[:, None] * direction, torch.full((512,), 7)
    for logps in (Head(linear).logps(states, targets), token_logps(states, linear.weight, None, targets)[0]):
        assert logps.max() <= 0 and logps.min() > -1e-5


def test_a_model_of_few_positions_is_probed_within_them(tmp_path):
    """Learned positions end at 64; the probe's longest sequence has 120 tokens elsewhere."""
    from transformers import GPT2Config

    size = {"vocab_size": len(byte_tokenizer()), "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64}
    model = save(tmp_path, GPT2Config(**size, bos_token_id=0, eos_token_id=2))
    sequences = forest()
    assert max(sequence.length for sequence in sequences) <= 64
    one_by_one = alone(TransformersEngine(model, "float32", packed=False), sequences)
    assert np.allclose(TransformersEngine(model, "float32").logps(sequences), one_by_one, atol=1e-4)
