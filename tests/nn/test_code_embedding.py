"""The embedding of several layers of codes: offsets, attention over layers, layers left out."""

from __future__ import annotations

import pytest
import torch

from audiotok._platform.errors import InputError
from audiotok.nn import CodeEmbedding, LayerAttention

SIZES = (4, 6, 5)


def codes_of(*shape: int, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    rows = [torch.randint(0, size, (shape[0], shape[1]), generator=random) for size in SIZES]
    return torch.stack(rows, 1)


def test_weights_of_layers_sum_to_one_and_ids_are_apart():
    embedding = CodeEmbedding(SIZES, 8)
    vectors, weights = embedding(codes_of(2, 9))
    assert vectors.shape == (2, 9, 8)
    assert torch.allclose(weights.sum(1), torch.ones(2, 9))
    assert embedding.offset.flatten().tolist() == [0, 4, 10]
    assert embedding.table.num_embeddings == 15


def test_a_vector_is_the_weighted_sum_of_rows():
    embedding = CodeEmbedding(SIZES, 8)
    codes = torch.tensor([[[3], [5], [0]]])
    vectors, weights = embedding(codes)
    rows = embedding.table.weight[[3, 4 + 5, 10 + 0]]
    wanted = embedding.attention.score(rows).softmax(0)
    assert torch.allclose(weights[0, :, 0], wanted[:, 0])
    assert torch.allclose(vectors[0, 0], (wanted * rows).sum(0), atol=1e-6)


def test_a_layer_that_is_left_out_has_no_weight_and_no_gradient():
    embedding = CodeEmbedding(SIZES, 8)
    codes = codes_of(2, 5)
    codes[:, 1] = -1
    codes[1, :, 3:] = -1  # padding
    vectors, weights = embedding(codes)
    assert (weights[:, 1] == 0).all()
    assert torch.allclose(weights[0].sum(0), torch.ones(5))
    assert (vectors[1, 3:] == 0).all()
    two = CodeEmbedding((4, 5), 8)  # the same without that layer
    with torch.no_grad():
        two.table.weight.copy_(embedding.table.weight[[*range(4), *range(10, 15)]])
    two.attention.load_state_dict(embedding.attention.state_dict())
    assert torch.allclose(two(codes[:1, ::2])[0], vectors[:1], atol=1e-6)
    vectors.sum().backward()
    grad = embedding.table.weight.grad
    assert grad is not None
    assert grad.isfinite().all()
    assert (grad[4:10] == 0).all()


def test_attention_finds_the_layer_that_tells():
    torch.manual_seed(0)
    embedding, out = CodeEmbedding(SIZES, 8), torch.nn.Linear(8, 4)
    optimiser = torch.optim.Adam([*embedding.parameters(), *out.parameters()], 1e-2)
    loss = torch.tensor(torch.inf)
    for step in range(150):
        codes = codes_of(4, 50, seed=step)
        vectors, _ = embedding(codes)
        loss = torch.nn.functional.cross_entropy(out(vectors).flatten(0, 1), codes[:, 0].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    _, weights = embedding(codes_of(4, 50, seed=999))
    assert weights.mean((0, 2)).argmax() == 0
    assert loss < 0.2


def test_codebooks_that_cannot_be_are_refused():
    with pytest.raises(InputError, match=r"codebooks of \[4, 0\] entries"):
        CodeEmbedding((4, 0), 8)
    with pytest.raises(InputError, match=r"codebooks of \[\] entries"):
        CodeEmbedding((), 8)


def test_an_entry_is_scored_as_the_vector_it_is():
    embedding, codes = CodeEmbedding(SIZES, 8), codes_of(2, 9)
    codes[0, 1] = -1
    vectors, weights = embedding(codes)
    each = embedding.table(codes.clamp(min=0) + embedding.offset)
    expected = embedding.attention(each, codes >= 0)
    assert torch.allclose(vectors, expected[0], atol=1e-6)
    assert torch.allclose(weights, expected[1], atol=1e-6)


def test_layers_of_vectors_are_combined_alone():
    vectors = torch.randn(2, 3, 5, 8)
    combined, weights = LayerAttention(8)(vectors)
    assert torch.allclose(combined, (weights[..., None] * vectors).sum(1), atol=1e-6)
