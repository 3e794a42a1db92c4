"""The dense MemAE as a PyTorch user would write it: the peer in training.py."""

import itertools

import torch
from torch import nn
from torch.nn import functional


class MemAE(nn.Module):
    """Network, memory and loss of `memae_tf.models.MemAE` with a cosine memory.

    Args:
        num_features: Size of a row.
        config: A `DenseModel` section.
    """

    def __init__(self, num_features: int, config):
        super().__init__()
        widths = [num_features, *config.hidden]
        self.encoder = nn.Sequential(
            *_tanh_layers(widths), nn.Linear(config.hidden[-1], config.code)
        )
        self.decoder = nn.Sequential(
            *_tanh_layers([config.code, *reversed(config.hidden)]),
            nn.Linear(config.hidden[0], num_features),
        )
        memory = config.memory
        limit = config.code**-0.5
        self.slots = nn.Parameter(
            torch.empty(memory.num_slots, config.code).uniform_(-limit, limit)
        )
        self.scale = 10.0 if memory.scale is None else memory.scale
        self.threshold = memory.shrink / memory.num_slots
        self.entropy_weight = memory.entropy_weight

    def loss(self, x):
        """Summed squared error of a row plus weighted entropy, mean over the rows."""
        code = self.encoder(x)
        cosine = functional.normalize(code, dim=1) @ functional.normalize(self.slots, dim=1).T
        softmax = (self.scale * cosine).softmax(dim=1)
        weights = torch.where(softmax > self.threshold, softmax, 0.0)
        # A query of which nothing is left reads with its unshrunk weights.
        live = softmax.amax(dim=1, keepdim=True) > self.threshold
        weights = torch.where(live, weights, softmax)
        weights = weights / weights.sum(dim=1, keepdim=True)
        error = (x - self.decoder(weights @ self.slots)).square().sum(dim=1)
        entropy = -(weights * (weights + 1e-12).log()).sum(dim=1)
        return (error + self.entropy_weight * entropy).mean()


def _tanh_layers(widths: list[int]) -> list[nn.Module]:
    pairs = itertools.pairwise(widths)
    return [layer for a, b in pairs for layer in (nn.Linear(a, b), nn.Tanh())]
