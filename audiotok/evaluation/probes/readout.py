"""Small networks that predict labels or text from codes, to measure the use of a codec's tokens.

    codes [b k f] -> an embedding each (ids offset by codebook) -> softmax over codebooks -> [b f d]
        -> Classifier: layers over time -> mean and deviation over time -> label
        -> Transcriber: two BiLSTMs -> characters, by CTC

The embedding with attention over codebooks is that of DASB (Mousavi et al. 2024, arXiv:2406.14294),
the BiLSTM that of SLMTokBench (Zhang et al. 2023, arXiv:2308.16692).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.shapes import Codes, Scalar

Labels = Int[Tensor, " b"]
Lengths = Int[Tensor, " b"]
QUOTE = "\N{RIGHT SINGLE QUOTATION MARK}"  # a typographic apostrophe


@dataclass(frozen=True)
class Budget:
    """Size of a readout and length of its training, on which its numbers depend."""

    width: int  # features of an embedding
    hidden: int  # features of an LSTM's direction, or of the layers that are pooled over time
    steps: int
    batch: int  # recordings a step
    rate: float  # learning rate of Adam

    def __str__(self) -> str:
        return (
            f"width {self.width}, hidden {self.hidden}, {self.steps} steps of {self.batch} "
            f"recordings, Adam {self.rate:g}"
        )


def padded(
    codes: Sequence[np.ndarray], device: torch.device | str = "cpu"
) -> tuple[Codes, Lengths]:
    """Return codes `[k f]` of several recordings as one tensor `[b k f]`, and their lengths."""
    lengths = torch.tensor([c.shape[1] for c in codes])
    batch = torch.zeros(len(codes), len(codes[0]), int(lengths.max()), dtype=torch.long)
    for row, mine in zip(batch, codes, strict=True):
        row[:, : mine.shape[1]] = torch.from_numpy(mine.copy())
    return batch.to(device), lengths.to(device)


class Embedding(nn.Module):
    """Embedding of codes as one vector a frame, weighted by a softmax over the codebooks.

    Args:
        sizes: entries in each codebook.
        width: features of a vector.
    """

    offset: Tensor

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(sum(sizes), width)
        self.register_buffer("offset", torch.tensor([0, *sizes]).cumsum(0)[:-1, None])
        self.score = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1, bias=False)
        )

    def forward(self, codes: Codes) -> tuple[Float[Tensor, "b f d"], Float[Tensor, "b k f"]]:
        """Return vectors, and the weight of each codebook in each frame; weights sum to 1."""
        ids = (codes + self.offset).transpose(1, 2)  # [b f k]
        # An entry has one score wherever it stands, and there are fewer entries than codes.
        weights = self.score(self.table.weight)[ids, 0].softmax(2)
        vectors = F.embedding_bag(
            ids.flatten(0, 1),
            self.table.weight,
            mode="sum",
            per_sample_weights=weights.flatten(0, 1),
        )
        return vectors.view(*ids.shape[:2], -1), weights.transpose(1, 2)


class Classifier(nn.Module):
    """Classifier of whole recordings: mean and deviation over time of layers, then a linear map.

    Args:
        sizes: entries in each codebook.
        classes: number of labels.
        budget: widths.
        linear: use no layers over time, so that the embedding's statistics are mapped. Otherwise
            there are three, as in an x-vector (Snyder et al. 2018), of kernels 5, 3 and 3 dilated
            1, 2 and 3.
    """

    def __init__(self, sizes: Sequence[int], classes: int, budget: Budget, *, linear: bool) -> None:
        super().__init__()
        self.embedding = Embedding(sizes, budget.width)
        widths = [budget.width] if linear else [budget.width] + [budget.hidden] * 3
        self.layers = nn.ModuleList(
            nn.Conv1d(one, other, 5 if not i else 3, dilation=i + 1, padding=2 if not i else i + 1)
            for i, (one, other) in enumerate(pairwise(widths))
        )
        self.out = nn.Linear(2 * widths[-1], classes)

    def forward(self, codes: Codes, lengths: Lengths) -> tuple[Float[Tensor, "b n"], Tensor]:
        """Return the scores of the labels, and the mean weight of each codebook `[k]`."""
        x, weights = self.embedding(codes)
        real = _real(lengths, x.shape[1])
        x = x.transpose(1, 2) * real[:, None]
        for layer in self.layers:
            x = layer(x).relu() * real[:, None]
        count = lengths[:, None].clamp(min=1)
        mean = x.sum(2) / count
        spread = ((x - mean[:, :, None]).square() * real[:, None]).sum(2) / count
        codebook_weights = (weights * real[:, None]).sum((0, 2)) / real.sum()
        return self.out(torch.cat([mean, (spread + 1e-6).sqrt()], 1)), codebook_weights


class BiLstm(nn.Module):
    """Pair of LSTMs over recordings of several lengths, one of them from each recording's end.

    Packed sequences are not used: they are 4 times slower on a CPU where lengths differ.

    Args:
        width: features of the input.
        hidden: features of each direction; both are concatenated.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.onward = nn.LSTM(width, hidden, batch_first=True)
        self.back = nn.LSTM(width, hidden, batch_first=True)

    def forward(self, x: Float[Tensor, "b f d"], lengths: Lengths) -> Float[Tensor, "b f e"]:
        """Return the concatenated outputs of both directions; those of padding are undefined."""
        frames = torch.arange(x.shape[1], device=x.device)
        mirrored = (lengths[:, None] - 1 - frames) % x.shape[1]  # its own inverse within a length
        rows = torch.arange(len(x), device=x.device)[:, None]
        return torch.cat([self.onward(x)[0], self.back(x[rows, mirrored])[0][rows, mirrored]], 2)


class Transcriber(nn.Module):
    """Character CTC model: two bidirectional LSTMs over the embedding.

    Args:
        sizes: entries in each codebook.
        characters: size of the alphabet, without CTC's blank, which is 0.
        budget: widths.
    """

    def __init__(self, sizes: Sequence[int], characters: int, budget: Budget) -> None:
        super().__init__()
        self.embedding = Embedding(sizes, budget.width)
        self.first = BiLstm(budget.width, budget.hidden)
        self.second = BiLstm(2 * budget.hidden, budget.hidden)
        self.out = nn.Linear(2 * budget.hidden, characters + 1)

    def forward(self, codes: Codes, lengths: Lengths) -> tuple[Float[Tensor, "b f v"], Tensor]:
        """Return log probabilities `[b f v]`, and the mean weight of each codebook `[k]`."""
        x, weights = self.embedding(codes)
        real = _real(lengths, x.shape[1])
        codebook_weights = (weights * real[:, None]).sum((0, 2)) / real.sum()
        y = self.second(self.first(x, lengths), lengths)
        return self.out(y).log_softmax(2), codebook_weights


def _real(lengths: Lengths, frames: int) -> Bool[Tensor, "b f"]:
    """Return a mask of the frames that are no padding."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def fits(text: Sequence[int], frames: int) -> bool:
    """Return whether CTC can align a text to so many frames, with blanks between repeats."""
    repeats = sum(a == b for a, b in pairwise(text))
    return len(text) > 0 and len(text) + repeats <= frames


def log_likelihood(
    log_probs: Float[Tensor, "b f v"], lengths: Lengths, texts: Sequence[Sequence[int]]
) -> Float[Tensor, " b"]:
    """Return the log probability in nats of each text, over all its alignments; -inf if none fits.

    Args:
        log_probs: log probabilities `[b f v]`.
        lengths: frames of each recording `[b]`.
        texts: characters of each recording, as indices from 1.
    """
    targets = torch.tensor([c for text in texts for c in text], device=log_probs.device)
    sizes = torch.tensor([len(text) for text in texts])
    by_time = log_probs.transpose(0, 1)
    return -F.ctc_loss(by_time, targets, lengths.cpu(), sizes, reduction="none")


def ctc_loss(
    codes: Sequence[np.ndarray],
    texts: Sequence[Sequence[int]],
    model: nn.Module,
    chosen: Sequence[int],
) -> Scalar:
    """Return the mean CTC loss of some recordings in nats a character; their texts must fit.

    Args:
        codes: codes `[k f]` of all recordings.
        texts: texts of all recordings, as indices from 1.
        model: a `Transcriber`.
        chosen: indices of the recordings.
    """
    device = next(model.parameters()).device
    batch, lengths = padded([codes[i] for i in chosen], device)
    log_probs, _ = model(batch, lengths)
    these = [texts[i] for i in chosen]
    sizes = torch.tensor([len(text) for text in these], device=device)
    return (-log_likelihood(log_probs, lengths, these) / sizes).mean()


def characters(text: str) -> str:
    """Return a text in lower case: letters, digits, apostrophes, and single spaces for all else."""
    text = unicodedata.normalize("NFKC", text).lower().replace(QUOTE, "'")
    # Combining marks are kept: in many scripts they are vowels.
    letters = [c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " for c in text]
    return " ".join("".join(letters).split())


def read(log_probs: Float[Tensor, "f v"]) -> list[int]:
    """Return the most likely characters `[f v]` frame by frame, without repeats and blanks."""
    best = log_probs.argmax(1).unique_consecutive()
    return best[best > 0].tolist()


def fit(
    build: Callable[[], nn.Module],
    loss: Callable[[nn.Module, list[int]], Tensor],
    n: int,
    budget: Budget,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    over: Callable[[Sequence[int], str], Iterable[int]] = lambda items, _: items,
) -> nn.Module:
    """Build and train a readout; the caller's random state stays as it is.

    Args:
        build: builds it, with weights drawn from `seed`.
        loss: loss on some of the recordings, given by their indices 0 to n - 1.
        n: number of recordings to learn from.
        budget: steps, batch and learning rate.
        seed: random seed of weights and order.
        device: device to run on.
        over: wraps the steps, for progress.
    """
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        model = build().to(device).train()
        random = np.random.default_rng(seed)
        optimiser = torch.optim.Adam(model.parameters(), budget.rate)
        left: list[int] = []
        for _ in over(range(budget.steps), "learn"):
            if len(left) < min(n, budget.batch):
                left += random.permutation(n).tolist()
            chosen, left = left[: budget.batch], left[budget.batch :]
            optimiser.zero_grad()
            loss(model, chosen).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
    return model.eval()
