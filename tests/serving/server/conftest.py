"""The embedded server is an extra."""

import pytest

pytest.importorskip("tensorflow_serving.apis")
