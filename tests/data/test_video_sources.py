"""The published sets, in the layouts of their archives, and a person's own footage."""

import shutil
import warnings
from pathlib import Path

import footage
import numpy as np
import pytest
import scipy.io
from PIL import Image

from memae_tf.config import AvenueData, ShanghaiTechData, UCSDData, VideoFolderData
from memae_tf.data import load
from memae_tf.data.clips import Video
from memae_tf.data.video import _labels_of
from memae_tf.errors import UserError

ODD = range(5, 12)
LABELS = np.isin(np.arange(20), ODD).astype(int)
NORMAL, ABNORMAL = footage.scene(20, 0), footage.scene(20, 1, ODD)
MASKS = LABELS[:, None, None] * np.ones((20, 24, 32), int)
SETTINGS = {"size": [12, 16], "clip_length": 4, "clip_stride": 2}


@pytest.fixture(autouse=True)
def no_other_data(monkeypatch):
    monkeypatch.delenv("MEMAE_DATA_DIR", raising=False)


def opened(kind, name, root, **settings):
    config = kind(name=name, dir=root, cache=root / "cache", **{**SETTINGS, **settings})
    return load(config, 0)


def check(dataset, num_train: int = 1, num_test: int = 1) -> None:
    assert len(dataset.train.videos) == num_train
    assert len(dataset.train) == num_train * 9
    assert dataset.train[0].shape == (4, 12, 16, 1)
    assert len(dataset.test.videos) == num_test
    np.testing.assert_array_equal(dataset.labels, np.tile(LABELS, num_test))
    assert dataset.featurizer.feature_shape == (4, 12, 16, 1)
    assert (dataset.protocol, dataset.threshold) == ("given", "train_quantile")


# UCSD


def ucsd(root: Path, part: str, suffix: str, clips: int = 1, masks: bool = True) -> Path:
    folder = root / "UCSD_Anomaly_Dataset.v1p2" / part
    footage.write_frames(folder / "Train" / "Train001", NORMAL, suffix)
    for number in range(1, clips + 1):
        footage.write_frames(folder / "Test" / f"Test{number:03}", ABNORMAL, suffix)
        if masks or number == 1:
            own = (MASKS * 255).astype("uint8")
            footage.write_frames(folder / "Test" / f"Test{number:03}_gt", own, "bmp")
    # What a Mac has left in the archive.
    (folder / "Test" / "._Test001").write_bytes(b"")
    (folder / "Train" / ".DS_Store").write_bytes(b"")
    return folder


@pytest.mark.parametrize("suffix", ["tif", "jpg", "png"])
def test_ped2_with_masks(tmp_path, suffix):
    ucsd(tmp_path, "UCSDped2", suffix)
    check(opened(UCSDData, "ucsd_ped2", tmp_path))


def test_found_in_the_environment_or_named_itself(tmp_path, monkeypatch):
    folder = ucsd(tmp_path, "UCSDped2", "png")
    check(opened(UCSDData, "ucsd_ped2", folder))
    monkeypatch.setenv("MEMAE_DATA_DIR", str(tmp_path))
    settings = {**SETTINGS, "cache": tmp_path / "cache"}
    check(load(UCSDData(name="ucsd_ped2", **settings), 0))
    message = r"UCSDped1 \(.*\) is not on this machine; .* UCSD_Anomaly_Dataset\.v1p2/UCSDped1/"
    with pytest.raises(UserError, match=message):
        load(UCSDData(name="ucsd_ped1", **settings), 0)


def test_ped1_has_a_list_where_masks_are_missing(tmp_path):
    folder = ucsd(tmp_path, "UCSDped1", "tif", clips=2, masks=False)
    listed = folder / "Test" / "UCSDped1.m"
    listed.write_text(
        "TestVideoFile = {};\n"
        "TestVideoFile{end+1}.gt_frame = [6:12];\n"
        "TestVideoFile{end+1}.gt_frame = [6:8, 9:11 12];\n"
    )
    check(opened(UCSDData, "ucsd_ped1", tmp_path), num_test=2)
    listed.write_text("TestVideoFile{end+1}.gt_frame = [6:21];\n" * 2)
    with pytest.raises(UserError, match=r"6:21 should be within 1:20, the frames of Test001"):
        opened(UCSDData, "ucsd_ped1", tmp_path)
    listed.unlink()
    with pytest.raises(UserError, match=r"not every test clip has masks .* UCSDped1\.m"):
        opened(UCSDData, "ucsd_ped1", tmp_path)


def test_masks_of_another_length(tmp_path):
    folder = ucsd(tmp_path, "UCSDped2", "png")
    (folder / "Test" / "Test001_gt" / "020.bmp").unlink()
    with pytest.raises(UserError, match="video Test001: has 20 frames, but labels for 19"):
        opened(UCSDData, "ucsd_ped2", tmp_path)


# Avenue


@pytest.mark.parametrize("beside", [True, False])
def test_avenue(tmp_path, beside):
    root = tmp_path / "Avenue Dataset"
    footage.write_video(root / "training_videos" / "01.avi", NORMAL, "mpeg4")
    for number in (1, 2):
        video = root / "testing_videos" / f"{number:02}.avi"
        footage.write_video(video, ABNORMAL, "mpeg4")
        cells = np.empty((1, 20), object)
        cells[0] = [mask.astype("uint8") for mask in MASKS]
        masks = (tmp_path if beside else root) / "ground_truth_demo" / "testing_label_mask"
        masks.mkdir(parents=True, exist_ok=True)
        scipy.io.savemat(masks / f"{number}_label.mat", {"volLabel": cells})
    check(opened(AvenueData, "avenue", tmp_path), num_test=2)
    (masks / "1_label.mat").write_bytes(b"no labels")
    with pytest.raises(UserError, match=r"1_label\.mat: cannot be read as labels"):
        opened(AvenueData, "avenue", tmp_path)
    (masks / "1_label.mat").unlink()
    with pytest.raises(UserError, match="has no labels of video 01"):
        opened(AvenueData, "avenue", tmp_path)


# ShanghaiTech


@pytest.fixture
def shanghaitech(tmp_path) -> Path:
    root = tmp_path / "shanghaitech"
    footage.write_video(root / "training" / "videos" / "01_001.avi", NORMAL, "mpeg4")
    footage.write_frames(root / "testing" / "frames" / "01_0014", ABNORMAL, "jpg", first=0)
    (root / "testing" / "test_frame_mask").mkdir()
    np.save(root / "testing" / "test_frame_mask" / "01_0014.npy", LABELS.astype("int8"))
    return root


def test_shanghaitech(shanghaitech):
    check(opened(ShanghaiTechData, "shanghaitech", shanghaitech.parent))


def test_shanghaitech_labels_of_another_length(shanghaitech):
    np.save(shanghaitech / "testing" / "test_frame_mask" / "01_0014.npy", LABELS[:15])
    with pytest.raises(UserError, match="video 01_0014: has 20 frames, but labels for 15"):
        opened(ShanghaiTechData, "shanghaitech", shanghaitech)


# A person's own


@pytest.fixture
def camera(tmp_path) -> Path:
    footage.write_video(tmp_path / "train" / "morning.mp4", NORMAL, "libx264")
    footage.write_frames(tmp_path / "train" / "noon", NORMAL)
    footage.write_video(tmp_path / "test" / "evening.mkv", ABNORMAL)
    footage.write_frames(tmp_path / "test" / "night", ABNORMAL)
    (tmp_path / "labels.csv").write_text(
        "video,first,last\nevening.mkv,5,9\nevening,10,11\nnight,5,11\n"
    )
    (tmp_path / "train" / "notes.txt").write_text("no video")
    return tmp_path


def own(root, **settings):
    return opened(VideoFolderData, "video_folder", root, **settings)


def test_video_folder(camera):
    check(own(camera), num_train=2, num_test=2)
    assert own(camera).name == camera.name


def test_labels_hold_for_the_frames_of_the_file_at_any_rate(camera):
    dataset = own(camera, frame_rate=5.0)
    # Of the file every second frame and the last one; of the folder, whose rate nobody knows, all.
    assert [len(video.frames) for video in dataset.test.videos] == [11, 20]
    np.testing.assert_array_equal(dataset.labels[:11], [*LABELS[::2], LABELS[-1]])
    np.testing.assert_array_equal(dataset.labels[11:], LABELS)
    # Footage to be scored is brought to the same.
    assert dataset.featurizer.frame_rate == 5.0


def test_whatever_is_not_0_is_abnormal():
    prepared = Video("a", np.zeros((3, 2, 2, 1), "uint8"), np.array([0, 2, 3]), 4, None)
    np.testing.assert_array_equal(_labels_of(prepared, np.array([0, 0, 255, 1])), [0, 1, 1])


def test_scales_are_those_of_the_training_footage_alone(camera):
    dataset = own(camera, scaling="standard", clip_length=5)
    trained = np.concatenate([video.frames for video in dataset.train.videos])
    tested = np.concatenate([video.frames for video in dataset.test.videos])
    assert abs(tested.mean() - trained.mean()) > 0.01
    assert float(dataset.featurizer.offset[0]) == pytest.approx(trained.mean(), rel=1e-5)
    assert float(dataset.featurizer.spread[0]) == pytest.approx(trained.std(), rel=1e-4)


def test_without_labels_or_test_nothing_is_evaluated(camera):
    (camera / "labels.csv").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = own(camera)
    assert dataset.labels is None
    assert dataset.protocol == "unlabelled"
    assert len(dataset.test.videos) == 2
    (camera / "test").rename(camera / "later")
    assert own(camera).test is None


@pytest.mark.parametrize("place", ["test/labels.csv", "lables.csv"])
def test_labels_in_another_place_are_said_not_to_be_read(camera, place):
    (camera / "labels.csv").rename(camera / place)
    with pytest.warns(UserWarning, match=f"{place}: not read; labels .* in .*/labels.csv$"):
        assert own(camera).labels is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "dawn,1,2",
            r"labels\.csv, line 2: there is no video 'dawn' in test/; it has evening",
        ),
        ("nihgt,1,2", r"line 2: there is no video 'nihgt' in test/; did you mean 'night'\?"),
        ("night,15,20", r"line 2: 15 to 20 should be within 0 to 19, the frames of night"),
        ("night,1,3,5,7", r"line 2: has 5, 7 after its last frame; each span should have a line"),
        ("night,9,3", r"line 2: first and last should be numbers of frames, .* are '9' and '3'"),
        ("night,1.5,3", r"line 2: first and last should be numbers of frames, .* are '1\.5' and"),
        ("night,1,3\n\nnight,5", r"line 4: first and last .* are '5' and ''"),
        ("night,1,3,,\nnight,-5,6,by hand", r"line 3: first and last .* are '-5' and '6'"),
    ],
)
def test_labels_that_do_not_fit(camera, line, message):
    (camera / "labels.csv").write_text(f"video,first,last\n{line}\n")
    with pytest.raises(UserError, match=message):
        own(camera)


def test_header_of_labels(camera):
    lines = "evening.mkv,5,11\nnight,5,11\n"
    (camera / "labels.csv").write_text(f"\n\nvideo,first,last\n{lines}")
    np.testing.assert_array_equal(own(camera).labels, [*LABELS, *LABELS])
    (camera / "labels.csv").write_text(f"video,first,last,first\n{lines}")
    with pytest.raises(UserError, match="has two columns first; its header should be video,first"):
        own(camera)
    (camera / "labels.csv").write_text(f"video,first,last\n{lines}")
    shutil.rmtree(camera / "test")
    with pytest.raises(UserError, match=r"line 2: there is no video 'evening\.mkv', as test/ has "):
        own(camera)


def test_labels_all_of_one_kind(camera):
    (camera / "labels.csv").write_text("video,first,last\n")
    with pytest.raises(UserError, match="all test frames are labelled normal; an evaluation"):
        own(camera)
    (camera / "labels.csv").write_text("video,start,end\n")
    with pytest.raises(UserError, match=r"has no column first; .* video,first,last"):
        own(camera)


def test_footage_that_is_missing_short_or_damaged(camera):
    with pytest.raises(UserError, match=r"a clip spans 31 frames .* the longest video has 20"):
        own(camera, clip_length=16, frame_stride=2)
    damaged = camera / "test" / "evening.mkv"
    damaged.write_bytes(damaged.read_bytes()[:300])
    with pytest.raises(UserError, match=r"1 of 4 videos cannot be read: .*evening\.mkv"):
        own(camera)
    with pytest.warns(UserWarning, match=r"evening\.mkv .* left out"):
        dataset = own(camera, damaged="skip")
    np.testing.assert_array_equal(dataset.labels, LABELS)
    with pytest.raises(UserError, match=r"has no footage in train/"):
        own(camera / "test")


def test_videos_shorter_than_a_clip_are_said_to_be_left_out(camera):
    footage.write_frames(camera / "train" / "dawn", NORMAL[:3])
    footage.write_frames(camera / "test" / "dusk", NORMAL[:2])
    message = r"2 of 6 videos have fewer frames than the 4 .* the first is dawn, with 3$"
    with pytest.warns(UserWarning, match=message):
        dataset = own(camera)
    assert len(dataset.train) == 2 * 9


def test_damaged_frame_names_its_file(camera):
    file = camera / "train" / "noon" / "007.png"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(UserError, match=r"noon \(007\.png: "):
        own(camera)


def test_files_that_differ_in_their_suffix_alone(camera):
    footage.write_video(camera / "test" / "evening.avi", NORMAL, "mpeg4")
    (camera / "labels.csv").write_text("video,first,last\nevening.mkv,5,11\nnight,5,11\n")
    dataset = own(camera)
    assert [video.name for video in dataset.test.videos] == ["evening.avi", "evening.mkv", "night"]
    np.testing.assert_array_equal(dataset.labels, [*[0] * 20, *LABELS, *LABELS])
    (camera / "labels.csv").write_text("video,first,last\nevening,5,11\n")
    with pytest.raises(UserError, match="there is no video 'evening' in test/"):
        own(camera)


def test_files_as_a_camera_writes_them(camera):
    """Without a container, in capitals."""
    footage.write_video(camera / "train" / "night.h264", NORMAL, "libx264")
    (camera / "train" / "night.h264").rename(camera / "train" / "NIGHT.H264")
    dataset = own(camera)
    assert [video.name for video in dataset.train.videos] == ["NIGHT", "morning", "noon"]
    assert [len(video.frames) for video in dataset.train.videos] == [20, 20, 20]


def test_colour(camera):
    dataset = own(camera, channels=3, scaling="standard")
    assert dataset.train[0].shape == (4, 12, 16, 3)
    Image.fromarray(dataset.train[0][0])
    features = np.asarray(dataset.featurizer(np.stack([dataset.train[i] for i in range(18)])))
    assert abs(features.mean()) < 0.2
    assert features.std() == pytest.approx(1, abs=0.2)
