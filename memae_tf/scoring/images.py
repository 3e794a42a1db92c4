"""Images in files, as batches for a detector."""

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from memae_tf.data import images
from memae_tf.errors import UserError
from memae_tf.scoring.detectors import Answer

# The most bytes of images in a batch, as pictures of cameras are large.
BATCH_BYTES = 2**25


class ImageFolder:
    """The images of a folder and its subfolders, or a single image, read batch by batch.

    Attributes:
        damaged: The files that could not be read so far, and why.

    Args:
        path: The folder, or an image file.
        batch_size: Images in a batch, at most; there are fewer if they are large.

    Raises:
        UserError: If there is no image.
    """

    def __init__(self, path: Path, batch_size: int):
        if not path.exists():
            raise UserError(f"{path}: there is no such image or folder of images")
        self.paths = images.files_in(path) if path.is_dir() else [path]
        if not self.paths:
            raise UserError(f"{path}: has no images")
        self.damaged: list[tuple[Path, str]] = []
        self._batch_size = batch_size
        # Files whose rows were not returned yet, and whether they could be read.
        self._open: deque[tuple[Path, bool]] = deque()

    def batches(self) -> Iterator[list[np.ndarray]]:
        """Lists of uint8 images (height, width, 1 or 3), of any sizes; none is empty."""
        batch, size = [], 0
        for path in self.paths:
            try:
                image = images.read_image(path)
            except images.UNREADABLE as error:
                self.damaged.append((path, images.reason(error, path)))
                self._open.append((path, False))
                continue
            self._open.append((path, True))
            batch.append(image)
            size += image.nbytes
            if len(batch) == self._batch_size or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def rows(self, answer: Answer) -> Iterator[dict]:
        """`image`, `score` and `is_anomaly` of the files of a batch, damaged ones included.

        Args:
            answer: The answer for the next batch; answers must come in the order of the batches.
        """
        for score, is_anomaly in zip(answer["score"], answer["is_anomaly"], strict=True):
            yield from self.damaged_rows()
            path, _ = self._open.popleft()
            # In as many digits as tell float32 apart.
            yield _row(path, float(str(score)), int(is_anomaly))

    def damaged_rows(self) -> Iterator[dict]:
        """The rows of damaged files that come next, without score and decision."""
        while self._open and not self._open[0][1]:
            yield _row(self._open.popleft()[0], None, None)


def _row(path: Path, score: float | None, is_anomaly: int | None) -> dict:
    # A file's name may have any bytes, but lines are UTF-8.
    name = os.fsencode(path).decode(errors="backslashreplace")
    return {"image": name, "score": score, "is_anomaly": is_anomaly}
