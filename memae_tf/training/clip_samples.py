"""Clips over prepared footage as training samples, with augmentation and pseudo-anomalies.

The plan of an epoch has the numbers of the frames and everything that is drawn at random. Clips are
then gathered from frames on the device, or read batch by batch.
"""

from collections.abc import Sequence

import numpy as np
from keras import ops

from memae_tf.config import Augmentation, PseudoAnomalies, TrainingConfig
from memae_tf.data.clips import Clips, span
from memae_tf.layers import ClipFeaturizer
from memae_tf.training.samples import Arrays, Spec, Tensor, Tensors, TrainingSamples

# The least side of a patch, as a share of the frame's; in LNRA it is 10 of 256 pixels.
SMALLEST_PATCH = 0.04
# The share of half a patch's side over which its border fades.
PATCH_BORDER = 0.1
# The least side of what a patch shows of another frame, as a share of that frame's.
SMALLEST_SOURCE = 0.25


class ClipSamples(TrainingSamples):
    """Clips as the feeds and the loop take them.

    With `config.pseudo_anomalies`, some clips are made abnormal: by skipped frames, so that motion
    is too fast, or by a patch from another frame that moves over the clip. With its loss "restore",
    the target is the normal clip that it was made from; with "repel", the clip's reconstruction
    error has the weight -1.

    Args:
        clips: Normal clips.
        featurizer: Normalises the clips; its size and channels are those of the frames.
        config: The `training` section.

    Reference:
        - [Astrid et al., Learning Not to Reconstruct Anomalies, BMVC
          2021](https://arxiv.org/abs/2110.09742): skipped frames and patches, "restore"
        - STEAL: [Astrid et al., Synthetic Temporal Anomaly Guided End-to-End Video Anomaly
          Detection, ICCVW 2021](https://arxiv.org/abs/2110.09768), and [PseudoBound, Neurocomputing
          2023](https://arxiv.org/abs/2303.10704): "repel"
    """

    def __init__(self, clips: Clips, featurizer: ClipFeaturizer, config: TrainingConfig):
        self.clips = clips
        self.featurizer = featurizer
        self.augmentation = config.augmentation or Augmentation()
        self.pseudo = config.pseudo_anomalies or PseudoAnomalies()
        self.shape = (len(clips), *featurizer.feature_shape)
        self.videos = [video.frames for video in clips.videos]
        # Video i has the frames `bounds[i]` to `bounds[i + 1]` of the frames of all videos.
        self.bounds = np.cumsum([0, *(len(frames) for frames in self.videos)])
        self.nbytes = sum(frames.nbytes for frames in self.videos)
        self.sample_nbytes = sum(spec.nbytes for spec in self.specs().values())
        # Constants, as the layer's weights are not distributed over the replicas.
        self._offset, self._spread = (
            ops.convert_to_numpy(value) for value in (featurizer.offset, featurizer.spread)
        )

    @property
    def _augments(self) -> bool:
        return self.augmentation.flip > 0 or self.augmentation.crop > 0

    @property
    def _restores_skips(self) -> bool:
        return self.pseudo.skip > 0 and self.pseudo.loss == "restore"

    def __getitem__(self, index):
        clips = self.clips[np.asarray(index)]
        features = np.empty((len(clips), *self.shape[1:]), "float32")
        for places, batch in self.featurizer.batches(clips, self.featurizer.batch_size):
            features[places] = self.featurizer(batch)
        return features

    def resident(self):
        return np.concatenate(self.videos)

    # The plan of an epoch.

    def plan(self, order, seed, epoch):
        rng = np.random.default_rng([seed, epoch])
        video, start = self.clips.places[order].T
        lengths = np.diff(self.bounds)[video]
        plan = {}
        if self._augments:
            plan["box"] = self._boxes(rng, len(order))
        draws = rng.random(len(order))
        skips = draws < self.pseudo.skip
        patches = (draws >= self.pseudo.skip) & (draws < self.pseudo.skip + self.pseudo.patch)
        if self.pseudo.skip:
            gap = self._gaps(rng, skips, lengths)
            start = np.minimum(start, lengths - ((self.clips.length - 1) * gap + 1))
            skips &= gap > self.clips.frame_stride
            plan["gap"] = gap.astype("int32")
        if self.pseudo.patch:
            plan |= self._patches(rng, patches)
        if self.pseudo.loss == "repel":
            plan["weight"] = np.where(skips | patches, -1.0, 1.0).astype("float32")
        plan["first"] = (self.bounds[video] + start).astype("int32")
        return plan

    def _boxes(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Parts of frames to train on, as shares (clips, 4): top, left, height, width.

        A mirrored part begins at its right side and has a negative width.
        """
        sides = 1 - self.augmentation.crop * rng.random((count, 2))
        corner = rng.random((count, 2)) * (1 - sides)
        mirrored = rng.random(count) < self.augmentation.flip
        corner[:, 1] += np.where(mirrored, sides[:, 1], 0)
        sides[:, 1] *= np.where(mirrored, -1, 1)
        return np.concatenate([corner, sides], axis=1).astype("float32")

    def _gaps(self, rng: np.random.Generator, skips: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The distance from one frame of each clip to the next, larger where frames are skipped.

        A video that is too short limits it.
        """
        own = self.clips.frame_stride
        factor = np.where(skips, rng.choice(self.pseudo.skips, len(skips)), 1)
        longest = (lengths - 1) // max(self.clips.length - 1, 1) // own
        return own * np.maximum(1, np.minimum(factor, longest))

    def _patches(self, rng: np.random.Generator, patches: np.ndarray) -> Arrays:
        """The sources of patches, their sizes, and their centers in each frame of the clips."""
        count, length = len(patches), self.clips.length
        half = rng.uniform(SMALLEST_PATCH, max(SMALLEST_PATCH, self.pseudo.patch_size), (count, 2))
        half = np.where(patches[:, None], half / 2, 0)
        steps = rng.uniform(-1, 1, (count, length, 2)) * self.pseudo.patch_move
        steps[:, 0] = rng.random((count, 2))
        centers = np.clip(np.cumsum(steps, axis=1), 0, 1)
        sides = rng.uniform(SMALLEST_SOURCE, 1, (count, 2))
        corner = rng.random((count, 2)) * (1 - sides)
        return {
            "patch_frame": rng.integers(self.bounds[-1], size=count).astype("int32"),
            "patch_source": np.concatenate([corner, sides], axis=1).astype("float32"),
            "patch_half": half.astype("float32"),
            "patch_centers": centers.astype("float32"),
        }

    # From a plan to samples.

    def gather(self, resident, plan):
        own = self.clips.frame_stride

        def clip(gap):
            frames = plan["first"][..., None] + gap * ops.arange(self.clips.length)
            return ops.take(resident, frames, axis=0)

        samples = self._drawn(plan)
        samples["x"] = clip(plan["gap"][..., None] if "gap" in plan else own)
        if self._restores_skips:
            samples["y"] = clip(own)
        if self.pseudo.patch:
            samples["patch"] = ops.take(resident, plan["patch_frame"], axis=0)
        return samples

    def read(self, plan):
        own = self.clips.frame_stride
        gaps = plan.get("gap", np.full(len(plan["first"]), own))
        samples = self._drawn(plan)
        samples["x"] = self._clips(plan["first"], gaps)
        if self._restores_skips:
            samples["y"] = self._clips(plan["first"], np.full(len(gaps), own))
        if self.pseudo.patch:
            samples["patch"] = np.stack([self._frames(n, n + 1, 1)[0] for n in plan["patch_frame"]])
        return samples

    def _clips(self, firsts: Sequence[int], gaps: Sequence[int]) -> np.ndarray:
        return np.stack(
            [
                self._frames(first, first + span(self.clips.length, gap), gap)
                for first, gap in zip(firsts, gaps, strict=True)
            ]
        )

    def _frames(self, first: int, stop: int, step: int) -> np.ndarray:
        """Frames of one video, by their numbers among the frames of all videos."""
        video = np.searchsorted(self.bounds, first, "right") - 1
        start = self.bounds[video]
        return self.videos[video][first - start : stop - start : step]

    def _drawn(self, plan: dict) -> dict:
        """The entries of a plan that `prepare` needs."""
        names = ("box", "weight", "patch_source", "patch_half", "patch_centers")
        return {name: plan[name] for name in names if name in plan}

    def specs(self):
        clip = Spec(self.shape[1:], "uint8")
        specs = {}
        if self._augments:
            specs["box"] = Spec((4,), "float32")
        if self.pseudo.loss == "repel":
            specs["weight"] = Spec((), "float32")
        if self.pseudo.patch:
            specs["patch_source"] = Spec((4,), "float32")
            specs["patch_half"] = Spec((2,), "float32")
            specs["patch_centers"] = Spec((self.clips.length, 2), "float32")
            specs["patch"] = Spec(self.shape[2:], "uint8")
        specs["x"] = clip
        if self._restores_skips:
            specs["y"] = clip
        return specs

    def prepare(self, samples):
        clips = [ops.cast(samples[name], "float32") for name in ("x", "y") if name in samples]
        if self._augments:
            clips = [part_of_frames(clip, samples["box"]) for clip in clips]
        x, target = clips[0], clips[-1]
        if self.pseudo.patch:
            x = self._patched(x, samples)
            if self.pseudo.loss == "repel":
                target = x
        return self._normalised(x), self._normalised(target), samples.get("weight")

    def _patched(self, x: Tensor, samples: Tensors) -> Tensor:
        patch = ops.cast(samples["patch"], "float32")[:, None]
        patch = part_of_frames(patch, samples["patch_source"])
        mask = patch_masks(samples["patch_centers"], samples["patch_half"], self.shape[2:4])
        return x + mask[..., None] * (patch - x)

    def _normalised(self, x: Tensor) -> Tensor:
        return (x - self._offset) / self._spread


def part_of_frames(clips: Tensor, boxes: Tensor) -> Tensor:
    """Crops the frames of each clip to a part, and resizes that to the frame's size, bilinearly.

    By two matrix products, as XLA compiles no operation that crops and resizes.

    Args:
        clips: Float tensor (batch, frames, height, width, channels).
        boxes: Float tensor (batch, 4): top, left, height and width of the parts, as shares of the
            frame's; a negative width goes from right to left, which mirrors.
    """
    height, width = clips.shape[2:4]
    rows = _resampling(boxes[:, 0], boxes[:, 2], height)
    columns = _resampling(boxes[:, 1], boxes[:, 3], width)
    clips = ops.einsum("bij,bfjwc->bfiwc", rows, clips)
    return ops.einsum("bij,bfhjc->bfhic", columns, clips)


def _resampling(start: Tensor, length: Tensor, size: int) -> Tensor:
    """The weights of old pixels in new ones along an axis, (batch, new size, old size)."""
    pixels = ops.arange(size, dtype="float32")
    places = (start[:, None] + length[:, None] * (pixels + 0.5) / size) * size - 0.5
    places = ops.clip(places, 0.0, size - 1.0)
    return ops.maximum(0.0, 1.0 - ops.abs(places[..., None] - pixels))


def patch_masks(centers: Tensor, half: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks of patches (batch, frames, height, width): 1 inside, fading to 0 at a soft border.

    Args:
        centers: Float tensor (batch, frames, 2): centers, as shares of height and width.
        half: Float tensor (batch, 2): half of the sides, in the same units; 0 is no patch.
        size: (height, width) of the frames.
    """
    masks = []
    for axis, pixels in enumerate(size):
        places = (ops.arange(pixels, dtype="float32") + 0.5) / pixels
        distance = ops.abs(places - centers[..., axis, None])
        inside = half[:, None, axis, None]
        border = ops.maximum(PATCH_BORDER * inside, 1.0 / pixels)
        fading = ops.clip((inside + border - distance) / border, 0.0, 1.0)
        masks.append(fading * ops.cast(inside > 0, "float32"))
    return masks[0][..., :, None] * masks[1][..., None, :]
