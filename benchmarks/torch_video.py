"""The paper's 3-D MemAE as a PyTorch user would write it: the peer in video.py."""

import itertools

import torch
from torch import nn
from torch.nn import functional


class VideoMemAE(nn.Module):
    """Network and memory of `configs/ped2_paper.yaml` (Gong et al., 2019, section 4.2).

    Args:
        config: A `Conv3DModel` section.
    """

    def __init__(self, config):
        super().__init__()
        widths = [1, *config.filters]
        strides = [(1, 2, 2)] + [(2, 2, 2)] * (len(config.filters) - 1)
        encoder = []
        for (a, b), stride in zip(itertools.pairwise(widths), strides, strict=True):
            encoder += [nn.Conv3d(a, b, 3, stride, padding=1), nn.BatchNorm3d(b), nn.LeakyReLU(0.2)]
        decoder = []
        pairs = itertools.pairwise(reversed(widths))
        for (a, b), stride in zip(pairs, reversed(strides), strict=True):
            padding = tuple(s - 1 for s in stride)
            decoder.append(nn.ConvTranspose3d(a, b, 3, stride, padding=1, output_padding=padding))
            decoder += [nn.BatchNorm3d(b), nn.LeakyReLU(0.2)]
        self.encoder = nn.Sequential(*encoder)
        # But for the last.
        self.decoder = nn.Sequential(*decoder[:-2])
        memory = config.memory
        self.slots = nn.Parameter(torch.empty(memory.num_slots, config.filters[-1]).uniform_(-1, 1))
        self.threshold = memory.shrink / memory.num_slots
        self.entropy_weight = memory.entropy_weight

    def score(self, clips):
        """Mean squared error of clips, uint8 (batch, 1, frames, height, width)."""
        x = clips.to(self.slots.dtype) / 127.5 - 1
        return (x - self._reconstruct(x)[0]).square().mean(dim=(1, 2, 3, 4))

    def loss(self, x):
        """Loss of a step with clips in [-1, 1], (batch, 1, frames, height, width)."""
        reconstruction, weights = self._reconstruct(x)
        entropy = -(weights * (weights + 1e-12).log()).sum(-1).mean()
        return (x - reconstruction).square().mean() + self.entropy_weight * entropy

    def _reconstruct(self, x):
        queries = self.encoder(x).movedim(1, -1)
        weights = functional.linear(queries, self.slots).softmax(dim=-1)
        excess = weights - self.threshold
        weights = functional.relu(excess) * weights / (excess.abs() + 1e-12)
        weights = functional.normalize(weights, p=1, dim=-1)
        return self.decoder((weights @ self.slots).movedim(-1, 1)), weights
