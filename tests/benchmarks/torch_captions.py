"""PyTorch's side of the captioning rows: the same network and the same search."""

import pathlib
from typing import Any

import caption_inputs
import machine
import torch
from row import Prepared
from torch import nn


class MultimodalRNN(nn.Module):
    """The captioner of the paper. The first step is written out, the others are torch's own RNN."""

    def __init__(self, classes: int, features: int, hidden: int, size: int):
        super().__init__()
        self.words = nn.Embedding(classes, features)
        self.image = nn.Linear(size, hidden, bias=False)
        self.rnn = nn.RNN(features, hidden, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(hidden, classes)
        w = {
            name: torch.from_numpy(a)
            for name, a in caption_inputs.weights(classes, features, hidden, size).items()
        }
        with torch.no_grad():
            self.words.weight.copy_(w["word_embedding"])
            self.image.weight.copy_(w["image_kernel"].T)
            self.rnn.weight_ih_l0.copy_(w["kernel"].T)
            self.rnn.weight_hh_l0.copy_(w["recurrent_kernel"].T)
            self.rnn.bias_ih_l0.copy_(w["bias"])
            self.rnn.bias_hh_l0.zero_()
            self.head.weight.copy_(w["head_kernel"].T)
            self.head.bias.copy_(w["head_bias"])
        # There is one bias, as on our side.
        self.rnn.bias_hh_l0.requires_grad_(False)

    def first(self, vectors: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """The hidden vectors after the first step, `[batch, hidden]`."""
        read = nn.functional.linear(words, self.rnn.weight_ih_l0, self.rnn.bias_ih_l0)
        return torch.relu(read + self.image(vectors))

    def forward(self, vectors: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Logits `[batch, steps, classes]` of the word after each of `ids`."""
        words = self.words(ids)
        start = self.first(vectors, words[:, 0])
        states = self.rnn(words[:, 1:], start[None])[0]
        return self.head(torch.cat([start[:, None], states], dim=1))


def training(
    folder: pathlib.Path,
    *,
    batch: int,
    steps: int,
    classes: int,
    features: int,
    hidden: int,
    size: int,
) -> Prepared:
    """Forward, backward and the update of RMSprop; arguments as for ours."""
    del folder
    torch.set_num_threads(len(machine.cores()))
    model = MultimodalRNN(classes, features, hidden, size)
    vectors, sentences = map(torch.from_numpy, caption_inputs.pairs(batch, steps, classes, size))
    targets = sentences.long()
    start = torch.full((batch, 1), caption_inputs.BOS)
    ids = torch.cat([start, targets[:, :-1]], dim=1)
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.RMSprop(learnt, lr=1e-3, alpha=0.999, eps=1e-8)
    now: dict[str, Any] = {}

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        logits = model(vectors, ids)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step()
        now["loss"] = loss.detach()

    def answers() -> dict[str, Any]:
        gradient = {
            "word_embedding": model.words.weight.grad,
            "image_encoder/kernel": model.image.weight.grad.T,
            "recurrent/kernel": model.rnn.weight_ih_l0.grad.T,
            "recurrent/recurrent_kernel": model.rnn.weight_hh_l0.grad.T,
            "recurrent/bias": model.rnn.bias_ih_l0.grad,
            "head_kernel": model.head.weight.grad.T,
            "head_bias": model.head.bias.grad,
        }
        gradient = {name: g.numpy() for name, g in gradient.items()}
        return {"loss": now["loss"].numpy(), "gradient": gradient}

    return Prepared(run, answers, work=batch * steps, unit="words")


@torch.inference_mode()
def _search(
    model: MultimodalRNN, vectors: torch.Tensor, width: int, steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The most probable sentence that ends, or is cut, and its log-probability."""
    batch, classes = len(vectors), model.head.out_features
    rows = torch.arange(batch)[:, None]
    start = torch.full((batch,), caption_inputs.BOS)
    hidden = model.first(vectors, model.words(start))
    hidden = hidden[:, None].expand(-1, width, -1)
    totals = torch.full((batch, width), -torch.inf)
    totals[:, 0] = 0
    written = torch.full((batch, width, steps), -1)
    best = torch.full((batch,), -torch.inf)
    ids = torch.full((batch, steps), -1)
    for place in range(steps):
        log_probs = model.head(hidden).log_softmax(-1)
        log_probs[..., [caption_inputs.UNK, caption_inputs.BOS]] = -torch.inf
        both = (totals[..., None] + log_probs).flatten(1)
        totals, places = both.topk(width, dim=1)
        parents, last = places // classes, places % classes
        written = written[rows, parents]
        written[..., place] = last
        ended = (last == caption_inputs.EOS) | (place == steps - 1)
        candidates, which = totals.masked_fill(~ended, -torch.inf).max(dim=1)
        better = candidates > best
        best = torch.where(better, candidates, best)
        ids = torch.where(better[:, None], written[rows[:, 0], which], ids)
        totals = totals.masked_fill(ended, -torch.inf)
        if not (totals.max(dim=1).values > best).any():
            break
        words = model.words(last).flatten(0, 1)
        hidden = hidden[rows, parents].flatten(0, 1)
        hidden = model.rnn(words[:, None], hidden[None])[0][:, 0].unflatten(0, (batch, width))
    return ids, best


def search(
    folder: pathlib.Path,
    *,
    batch: int,
    steps: int,
    width: int,
    classes: int,
    features: int,
    hidden: int,
    size: int,
) -> Prepared:
    """Beam search for the sentence of each picture; arguments as for ours."""
    del folder
    torch.set_num_threads(len(machine.cores()))
    model = MultimodalRNN(classes, features, hidden, size)
    vectors = torch.from_numpy(caption_inputs.pairs(batch, steps, classes, size)[0])
    now: dict[str, Any] = {}

    def run() -> None:
        now["found"] = _search(model, vectors, width, steps)

    def answers() -> dict[str, Any]:
        ids, log_probs = now["found"]
        return {"ids": ids.float().numpy(), "log-probabilities": log_probs.numpy()}

    return Prepared(run, answers, work=batch, unit="captions")
