import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from memae_tf.config import ImageFolderData
from memae_tf.data import image_folder
from memae_tf.data.dataset import count, take
from memae_tf.data.images import UNREADABLE, files_in, image_suffixes, open_files, read_image
from memae_tf.errors import UserError

RNG = np.random.default_rng(0)


def save(path, *shape: int, value: int | None = None, **arguments) -> np.ndarray:
    pixels = RNG.integers(0, 256, shape, "uint8") if value is None else np.full(shape, value, "u1")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **arguments)
    return pixels


@pytest.fixture
def root(tmp_path):
    for number in range(6):
        save(tmp_path / "train" / "normal" / f"{number}.png", 8, 10)
    for number in range(3):
        save(tmp_path / "test" / "normal" / f"{number}.bmp", 8, 10)
        save(tmp_path / "test" / "scratch" / f"{number}.png", 8, 10)
    save(tmp_path / "test" / "hole" / "deep" / "0.png", 8, 10)
    (tmp_path / "train" / "normal" / "Thumbs.db").write_bytes(b"no image")
    return tmp_path


def load(root, seed=0, **settings):
    return image_folder.load(ImageFolderData(name="image_folder", dir=root, **settings), seed)


def test_folders_are_train_set_test_set_and_labels(root):
    dataset = load(root)
    assert count(dataset.train) == 6
    assert [path.parent.name for path in dataset.test.paths] == (
        ["normal"] * 3 + ["deep"] + ["scratch"] * 3
    )
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert (dataset.protocol, dataset.threshold) == ("given", "train_quantile")
    assert dataset.featurizer.feature_shape == (8, 10, 1)
    assert dataset.name == root.name


def test_images_are_read_when_they_are_asked_for(root):
    dataset = load(root)
    pixels = save(root / "train" / "normal" / "2.png", 8, 10)
    np.testing.assert_array_equal(dataset.train[2][..., 0], pixels)
    np.testing.assert_array_equal(take(dataset.train, np.array([4, 2]))[1][..., 0], pixels)


def test_without_test_folder_all_train(tmp_path):
    save(tmp_path / "train" / "good" / "0.png", 8, 8)
    dataset = load(tmp_path, normal="good")
    assert dataset.test is dataset.labels is None
    assert dataset.protocol == "unlabelled"


def test_mixed_sizes_and_colours(root):
    save(root / "train" / "normal" / "large.jpg", 40, 30, 3)
    with pytest.raises(UserError, match=r"have 2 sizes, from 8x10 to 40x30; set data\.size="):
        load(root)
    assert load(root, size=16).featurizer.feature_shape == (16, 16, 3)
    dataset = load(root, size=[16, 12], channels=1)
    assert dataset.featurizer.feature_shape == (16, 12, 1)
    seen = [len(places) for places, _ in dataset.featurizer.batches(dataset.train, 100)]
    assert sorted(seen) == [1, 6]


def test_max_images_is_a_random_part_of_the_training_images(root):
    names = [tuple(load(root, seed, max_images=3).train.paths) for seed in range(5)]
    assert all(len(set(paths)) == 3 for paths in names)
    assert len(set(names)) > 1


def test_corrupt_files_are_named(root):
    whole = (root / "test" / "scratch" / "1.png").read_bytes()
    (root / "test" / "scratch" / "1.png").write_bytes(whole[: len(whole) // 2])
    (root / "train" / "normal" / "a text.png").write_text("no image")
    with pytest.raises(UserError) as error:
        load(root)
    message = str(error.value)
    assert "2 of 14 images cannot be read" in message
    assert "a text.png (cannot identify image file" in message
    assert "scratch/1.png (" in message
    assert "\n" not in message


def test_only_pictures_count_as_images(root):
    for name in ("report.pdf", "features.h5", "film.mpg", "fields.grib", "notes.txt"):
        (root / "train" / name).write_text("no picture")
    assert not {path.suffix for path in files_in(root / "train")} & {".pdf", ".h5", ".mpg", ".grib"}
    assert {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif"} <= image_suffixes()


def test_missing_folders_are_named(root):
    with pytest.raises(UserError, match="there is no such folder"):
        load(root / "nowhere")
    message = (
        "has no images in train/good/, which should hold the normal ones to train on; images "
        "are in train/dark/, train/normal/; set data.normal if they are in another folder"
    )
    save(root / "train" / "dark" / "0.png", 8, 10)
    with pytest.raises(UserError, match=f"{message}$"):
        load(root, normal="good")
    with pytest.raises(UserError, match=r"to train on; set data\.normal if they"):
        load(root / "test")
    for path in (root / "test" / "normal").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="it has 0 normal images and 4 anomalies"):
        load(root)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_damaged_avif_is_unreadable(tmp_path):
    path = tmp_path / "x.avif"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24, 3), "uint8")).save(path)
    whole, unreadable = np.fromfile(path, "uint8"), 0
    for seed in range(200):
        content, rng = whole.copy(), np.random.default_rng(seed)
        content[rng.integers(0, 400, 4)] = rng.integers(0, 256, 4)
        content.tofile(path)
        try:
            read_image(path)
        except UNREADABLE:
            unreadable += 1
    assert unreadable


def test_modes_become_grey_or_colour_of_8_bits(tmp_path):
    def read(array, mode=None, suffix="png"):
        Image.fromarray(array, mode).save(tmp_path / f"x.{suffix}")
        return read_image(tmp_path / f"x.{suffix}")

    deep = read(np.array([[0, 257, 65535]], "uint16"))
    assert deep[0, :, 0].tolist() == [0, 1, 255]
    assert read(np.zeros((2, 3, 4), "uint8")).shape == (2, 3, 3)
    assert read(np.array([[True, False]]))[0, :, 0].tolist() == [255, 0]
    Image.new("P", (3, 2), 1).save(tmp_path / "palette.gif")
    assert read_image(tmp_path / "palette.gif").shape == (2, 3, 3)
    with pytest.raises(ValueError, match="holds floats"):
        read(np.zeros((2, 2), "float32"), suffix="tif")
    with pytest.raises(ValueError, match="more than 16 bits"):
        read(np.full((2, 2), 65536, "int32"), suffix="tif")


def test_photographs_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by 90 degrees.
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10)).save(buffer, "jpeg", exif=exif)
    (tmp_path / "photo.jpg").write_bytes(buffer.getvalue())
    assert read_image(tmp_path / "photo.jpg").shape == (20, 10, 3)


def test_kind_of_pixel_that_pillow_does_not_know_is_named(tmp_path):
    header = struct.pack("<7I44x2I4s20x20x", 124, 0x1007, 4, 4, 0, 0, 0, 32, 4, b"ABCD")
    (tmp_path / "a.dds").write_bytes(b"DDS " + header)
    with pytest.raises(UserError, match=r"1 of 1 images cannot be read: .*a\.dds \(Unimpl"):
        open_files([tmp_path / "a.dds"], "a folder")


def exif_of(orientation: int, width: bytes) -> bytes:
    """EXIF with an orientation, and a width that is text of three letters and not a number."""
    entries = struct.pack("<HHI4s", 0x0100, 2, 4, width + b"\0")
    entries += struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)


@pytest.mark.parametrize("orientation", range(9))
def test_orientations_are_those_of_pillow_whatever_else_exif_says(tmp_path, orientation):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 20, 3), "uint8")
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(read_image(path), expected)
    # Pillow's own function stumbles over a number that is text.
    Image.fromarray(pixels).save(path, exif=exif_of(orientation, b"abc"))
    np.testing.assert_array_equal(read_image(path), expected)
