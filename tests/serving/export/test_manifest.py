import json

import pytest

from memae_tf.errors import UserError
from memae_tf.serving.export import manifest


@pytest.fixture
def export(tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "variables" / "variables.index").write_bytes(b"index")
    manifest.write(tmp_path, {"threshold": 1.5})
    return tmp_path


def test_whole_export_is_verified(export):
    content = manifest.verify(export)
    assert content["threshold"] == 1.5
    assert set(content["files"]) == {"saved_model.pb", "variables/variables.index"}
    (export / "unknown").write_text("no fault")
    assert manifest.verify(str(export)) == content


def test_file_that_differs_is_named(export):
    (export / "variables" / "variables.index").write_bytes(b"inbex")
    with pytest.raises(UserError, match=r"variables/variables\.index: is not the file that was"):
        manifest.verify(export)


def test_file_that_is_gone_is_named(export):
    (export / "saved_model.pb").unlink()
    with pytest.raises(UserError, match=r"saved_model\.pb: cannot be read \(No such file"):
        manifest.verify(export)


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_text(path.read_text()[:40]), "is damaged"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "is damaged"),
        (lambda path: path.write_text("[]"), "is damaged"),
        (lambda path: path.write_text('{"format_version": 1}'), "is damaged"),
        (
            lambda path: path.write_text(json.dumps({"format_version": 9, "files": {}})),
            "has format_version 9, but this package reads 1",
        ),
    ],
)
def test_manifest_that_cannot_be_used_is_named(export, change, fragment):
    change(export / manifest.MANIFEST)
    with pytest.raises(UserError, match=rf"manifest\.json: {fragment}"):
        manifest.verify(export)
