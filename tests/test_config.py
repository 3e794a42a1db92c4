from pathlib import Path

import pytest

from memae_tf import config as configuration
from memae_tf.config import load_benchmark, load_config, parse_config
from memae_tf.errors import UserError

ROOT = Path(__file__).parents[1]
KDD = ROOT / "configs" / "kddcup.yaml"


def test_overrides_replace_what_the_file_says():
    config = load_config(KDD, ["training.epochs=3", "model.hidden=[8,4]", "data.dir=null"])
    assert config.training.epochs == 3
    assert config.model.hidden == [8, 4]
    assert config.data.dir is None
    # PyYAML takes 1e-4 for a string.
    assert load_config(KDD, ["training.learning_rate=1e-4"]).training.learning_rate == 1e-4


def test_resolved_yaml_reads_back_the_same(tmp_path):
    config = load_config(KDD, ["model.memory.scale=learned"])
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    again = load_config(tmp_path / "config.yaml")
    assert again == config
    assert configuration.differing_keys(again, config) == []
    other = load_config(KDD, ["training.seed=1", "model.memory.scale=2"])
    assert configuration.differing_keys(config, other) == ["model.memory.scale", "training.seed"]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_configurations_are_valid(path):
    assert load_config(path).training.epochs >= 1


def test_a_loss_that_repels_needs_bounded_outputs():
    ped2 = ROOT / "configs" / "ped2.yaml"
    repel = "training.pseudo_anomalies={skip: 0.01, loss: repel}"
    with pytest.raises(UserError, match=r"nothing bounds loss=repel; .*output_activation: tanh"):
        load_config(ped2, [repel])
    for allowed in ([repel, "model.output_activation=tanh"], [repel.replace("repel", "restore")]):
        assert load_config(ped2, allowed).training.pseudo_anomalies.skip == 0.01


def test_tanh_needs_data_within_its_range():
    ped2 = ROOT / "configs" / "ped2.yaml"
    with pytest.raises(UserError, match=r"tanh gives values from -1 to 1.*use symmetric or unit"):
        load_config(ped2, ["model.output_activation=tanh", "data.scaling=standard"])


def test_shipped_benchmarks_are_valid():
    from memae_tf.training.grid import cells

    for path in (ROOT / "configs" / "benchmarks").glob("*.yaml"):
        benchmark = load_benchmark(path)
        grid = cells(benchmark, path)
        assert len({cell.name for cell in grid}) == len(grid)


@pytest.mark.parametrize(
    ("override", "fragment"),
    [
        ("training.epoch=3", "training.epoch: unknown key; did you mean training.epochs?"),
        ("epochs=3", "epochs: unknown key; did you mean training.epochs?"),
        ("model.memory.shrinkage=1", "did you mean model.memory.shrink?"),
        (
            "model={name: vae, net: {name: dense, hiden: [8]}}",
            "model.net.hiden: unknown key; did you mean model.net.hidden?",
        ),
        (
            "model={name: vae, net: {hidden: [8]}}",
            "model.net.name: is required, one of dense, conv2d",
        ),
        (
            "model={name: conv3d, filters: []}",
            "model.filters: list should have at least 1 item",
        ),
        # A key of other kinds of the section than the chosen one is none here.
        (
            "model={name: conv3d, kernels: [3]}",
            "model.kernels: unknown key; model may have variant",
        ),
        ("model={name: dense, nu: 0.1}", "model.nu: unknown key; model may have variant, memory"),
        ("training.filters=[8]", "training.filters: unknown key; training may have epochs"),
        (
            "data={name: image_folder, dir: x, clip_stride: 2}",
            "data.clip_stride: unknown key; data may have size, channels",
        ),
        ("training.xyz=1", "training.xyz: unknown key; training may have epochs"),
        ("training.epochs=ten", "training.epochs: input should be a valid integer"),
        (
            "training.pseudo_anomalies={skip: 0.9, patch: 0.2}",
            "training.pseudo_anomalies: the sum of skip and patch should be 1 or less",
        ),
        (
            "training.epochs=yes",
            "training.epochs: should be a number, got True (YAML reads yes, on and true so)",
        ),
        (
            "training.learning_rate=off",
            "training.learning_rate: should be a number, got False (YAML reads no, off and fal",
        ),
        ("model.hidden=[8, yes]", "model.hidden.1: should be a number, got True"),
        ("model.memory.scale=yes", "model.memory.scale: should be a number, got True"),
        (
            "training.augmentation={flip: 0.5}",
            "training.augmentation: is for video only; leave it out for these data",
        ),
        ("evaluation.frames.smoothing=2", "evaluation.frames: is for video only; leave it out"),
        (
            "data={name: tabular, train: a.csv, label: kind, categorical: [kind]}",
            "data: column 'kind' is the label, so it should not be in categorical",
        ),
        (
            "data={name: tabular, train: a.csv, label: kind, drop: [kind]}",
            "data: column 'kind' is the label, so it should not be in drop",
        ),
        (
            "data={name: tfds, dataset: mnist, normal: 0, channels: yes}",
            "data.channels: should be a number, got True (YAML reads yes, on and true so)",
        ),
        (
            "data={name: tabular, train: a.csv, numeric: [x], drop: [y, x]}",
            "data: column 'x' is in numeric and in drop; it should be in one only",
        ),
        (
            "data={name: tabular, train: a.csv, numeric: [x, y], categorical: [y]}",
            "data: column 'y' is in numeric and in categorical; it should be in one only",
        ),
        (
            "data={name: tabular, train: a.csv, test: b.csv, test_share: 0.1}",
            "data: test_share is the part of train to test on, so it goes without test",
        ),
        ("training.seed=2026-02-30", "'2026-02-30' is not a YAML value"),
        ("training.seed=0b_", "'0b_' is not a YAML value"),
        (f"data={'[' * 3000}", "is not a YAML value"),
        ("data.clip=1e30", "data.clip: input should be less than or equal to 1000000000000"),
        ("training.epochs=0", "training.epochs: input should be greater than 0, got 0"),
        ("training.learning_rate=.inf", "training.learning_rate: input should be a finite number"),
        (
            "model.name=dens",
            "model.name: 'dens' is not one of dense, conv2d, conv3d, ocsvm, ",
        ),
        ("model={}", "model.name: is required, one of dense, conv2d, conv3d"),
        ("model.memory=3", "model.memory: should be a section with keys of its own, got 3"),
        ("model.hidden=[60,a]", "model.hidden.1: input should be a valid integer"),
        ("model.variant=mem", "model.variant: 'mem' is not one of 'ae', 'memae-nonspar'"),
        ("evaluation.thresholds=[best_f2]", "evaluation.thresholds.0: 'best_f2' is not one of"),
        ("data.name=tabular", "data.train: is required"),
        ("training", "override 'training': write it as dotted.key=value"),
        ("training.seed=[", "'[' is not a YAML value"),
        (
            "training={epochs: 1, epochs: 3}",
            "override 'training={epochs: 1, epochs: 3}': 'epochs' is there twice; delete one",
        ),
        ("training.epochs.x=1", "training.epochs.x: training.epochs is a value, not a section"),
    ],
)
def test_mistakes_are_named(override, fragment):
    with pytest.raises(UserError) as error:
        load_config(KDD, [override])
    assert fragment in str(error.value)
    assert "\n" not in str(error.value)


def test_home_folders_in_paths(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    own = "data={name: tabular, train: ~/a.csv, test: [~/b.csv, c.csv]}"
    data = load_config(KDD, [own]).data
    assert data.train == [Path("/home/somebody/a.csv")]
    assert data.test == [Path("/home/somebody/b.csv"), Path("c.csv")]
    assert load_config(KDD, ["data.dir=~/data"]).data.dir == Path("/home/somebody/data")
    video = "data={name: video_folder, dir: ~/camera, cache: ~/frames}"
    assert load_config(KDD, [video]).data.cache == Path("/home/somebody/frames")
    with pytest.raises(UserError, match=r"data\.dir: ~nobody-like-this/x: there is no such home f"):
        load_config(KDD, ["data.dir=~nobody-like-this/x"])


def test_several_mistakes_are_all_named():
    with pytest.raises(UserError, match=r"training\.seed: .*training\.epoch: "):
        load_config(KDD, ["training.epoch=1", "training.seed=-1"])


def test_a_mistake_is_that_of_the_file_or_of_the_override_that_it_came_with():
    raw = {"data": {"name": "kddcup99"}, "model": {"name": "dense"}, "training": {"epochs": 0}}
    overrides = ["training.seed=-1", "training.epoch=1", "data.clip=0", "data.clip=1"]
    with pytest.raises(UserError) as error:
        parse_config(raw, overrides, "c.yaml")
    file, seed, epoch = str(error.value).split("; ", 2)
    assert file == "c.yaml: training.epochs: input should be greater than 0, got 0"
    assert seed.startswith("override 'training.seed=-1': training.seed: input should be greater ")
    assert epoch.startswith("override 'training.epoch=1': training.epoch: unknown key; did you ")
    raw["training"]["epochs"] = 1
    # A key may not fit what the file says of another one.
    raw["data"] = {"name": "tabular", "train": "a.csv", "label": "kind"}
    with pytest.raises(UserError, match=r"^override 'data\.drop=\[kind\]': data: column 'kind' is"):
        parse_config(raw, ["data.drop=[kind]"], "c.yaml")


def test_another_kind_of_section_has_none_of_the_keys_of_the_former():
    with pytest.raises(UserError) as error:
        load_config(KDD, ["model.name=kde"])
    assert str(error.value) == (
        "override 'model.name=kde': model still has variant, hidden, code, memory, which dense has "
        "and kde does not; 'model={name: kde}' replaces the whole section (kde is a baseline, "
        "which memae_tf.benchmark runs and memae_tf.train does not)"
    )
    with pytest.raises(UserError) as error:
        load_config(KDD, ["data.name=tabular", "data.scale=1"])
    assert str(error.value) == (
        "override 'data.name=tabular': data.train: is required; data still has protocol, which "
        "kddcup99 has and tabular does not; 'data={name: tabular}' replaces the whole section; "
        "override 'data.scale=1': data.scale: unknown key; did you mean data.scaling?"
    )


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("a: [1", "is not YAML"),
        (
            "a: 1\nb: 2\na: 3",
            r": 'a' is there twice \(lines 1 and 3\); delete one",
        ),
        ("b: [{a: {c: 1, c: 2}}]", ": 'c' is there twice; delete one"),
        ("- 1", "should be a mapping"),
        ("", "should be a mapping"),
        (b"\xff\xfe\x00", "is not"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, text, fragment):
    path = tmp_path / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=f"c.yaml.*{fragment}"):
        load_config(path)


def test_anchors_and_merges_have_no_key_twice(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {<<: *a, x: 4}\n")
    assert configuration.read_yaml(path)["c"] == {"x": 4, "y": 2}


def test_missing_file():
    with pytest.raises(UserError, match=r"nowhere\.yaml: cannot be read"):
        load_config("nowhere.yaml")


def test_missing_section():
    with pytest.raises(UserError, match="training: is required"):
        parse_config({"data": {"name": "kddcup99"}, "model": {"name": "dense"}})
