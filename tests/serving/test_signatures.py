import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memae_tf.serving import signatures


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=30), st.integers(1, 12), st.integers(1, 400)
)
def test_slices_are_as_large_as_they_may_be(lengths, batch_size, limit):
    inputs = {
        "text": np.array(["ü" * length for length in lengths], object),
        "number": np.zeros((len(lengths), 3), "float32"),
    }
    sizes = [2 * length + 4 + 12 for length in lengths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signatures, "MAX_BATCH_BYTES", limit)
        slices = signatures.row_slices(inputs, len(lengths), batch_size)
    assert [row for part in slices for row in range(part.start, part.stop)] == list(
        range(len(lengths))
    )
    for part in slices:
        rows = part.stop - part.start
        assert rows == 1 or (rows <= batch_size and sum(sizes[part]) <= limit)
        if part.stop < len(lengths):
            assert rows == batch_size or sum(sizes[part]) + sizes[part.stop] > limit
