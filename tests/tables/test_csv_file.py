"""Batches of CSV files: lines that pandas reads mean what they would mean to Python's csv."""

import bz2
import csv
import gzip
import lzma
import os
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memae_tf.errors import UserError
from memae_tf.tables import as_numbers, lines, read_batches, read_table, stray_text

DTYPES = {"number": "float32", "word": "string"}
NUMBERS = ["0", "01", "1.50", "1e5", "1e400", "-inf", "Infinity", "1.5e-320", "9" * 25, "2.5 "]
NO_NUMBERS = ["", "nan", "NaN", "NAN", "-", "NA", "n/a", "Null", "?", "True", "false", "FALSE"]
STRAY = ["0x10", "1_000", "1;5", "tcp", "S0", "#", "é", "NA ", "1+2j", "2026-11-27"]
WORDS = st.text(
    st.characters(codec="utf-8", exclude_characters='",\r\n\0', exclude_categories=["Cs"]),
    max_size=5,
).map(lambda text: text.lstrip(" "))
CELLS = st.sampled_from(NUMBERS + NO_NUMBERS + STRAY) | WORDS


def write(path, rows, quoting):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=quoting, lineterminator="\n")
        writer.writerows([["label", "number", "word"], *rows])


def meaning(path, size):
    """Numbers, which cells are text instead, and words, of a whole file."""
    tables = list(read_batches(path, size, DTYPES))
    assert all(list(table) == list(DTYPES) for table in tables)
    numbers = [as_numbers(table["number"]) for table in tables]
    stray = [
        stray_text(table["number"], values) for table, values in zip(tables, numbers, strict=True)
    ]
    return (
        np.concatenate([values.to_numpy("float64", na_value=np.nan) for values in numbers]),
        pd.concat(stray),
        pd.concat([table["word"].astype(object).fillna("") for table in tables]),
    )


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=6), st.integers(1, 4))
@example([("a", cell, cell) for cell in NUMBERS], 3)
@example([("a", cell, cell) for cell in NO_NUMBERS], 3)
@example([("a", cell, cell) for cell in STRAY], 3)
@settings(max_examples=150, deadline=None)
def test_plain_lines_mean_what_quoted_ones_mean(tmp_path_factory, rows, size):
    """With quotes around every cell, no line is plain; in batches of one, no cell has company."""
    folder = tmp_path_factory.mktemp("files", numbered=True)
    write(folder / "plain.csv", rows, csv.QUOTE_NONE)
    write(folder / "quoted.csv", rows, csv.QUOTE_ALL)
    numbers, stray, words = meaning(folder / "plain.csv", size)
    for other in (meaning(folder / "quoted.csv", size), meaning(folder / "plain.csv", 1)):
        np.testing.assert_array_equal(numbers.astype("float32"), other[0].astype("float32"))
        pd.testing.assert_series_equal(stray, other[1])
        pd.testing.assert_series_equal(words, other[2])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_blank_lines_quotes_and_records_of_several_lines(tmp_path, end, size):
    given = [
        "\ufefflabel, number,word",
        "",
        "a,1,tcp",
        '"b, c",2,"one',
        'two"" three"',
        "   ",
        "d,3, udp",
        "",
        "e,4,icmp",
    ]
    (tmp_path / "a.csv").write_text(end.join(given), newline="", encoding="utf-8")
    tables = list(read_batches(tmp_path / "a.csv", size, DTYPES))
    table = pd.concat(tables)
    assert table.index.tolist() == [0, 1, 2, 3]
    assert as_numbers(table["number"]).tolist() == [1, 2, 3, 4]
    assert table["word"].tolist() == ["tcp", f'one{end}two" three', "udp", "icmp"]
    assert all(len(table) <= size for table in tables)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,1", "line 6 has 2 cells, but the header has 3; is it cut off"),
        ("a,1,b,c", "line 6 has 4 cells, but the header has 3"),
        ('a,1,"b"c', "line 6 is not CSV ('"),
        ('a,1,"b', "line 6 begins a record with a quote that is not closed"),
        ('a,1,"b\n"b",2,b', "line 7 is not CSV (',' expected after '\"'); is a quote in line 6,"),
        ('a,1,"b\na",2,b', "line 7 has 5 cells, but the header has 3; is a quote in line 6, where"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 100])
def test_what_is_wrong_is_named_by_its_line(tmp_path, line, message, size):
    lines = ["label,number,word", "a,1,b", '"a",2,"b', '"', "", line, "a,3,b"]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(UserError) as caught:
        list(read_batches(tmp_path / "a.csv", size, DTYPES))
    assert str(caught.value).startswith(f"{tmp_path / 'a.csv'}: ")
    assert message in str(caught.value)


def test_a_header_in_other_case_is_one(tmp_path):
    (tmp_path / "a.csv").write_text("NUMBER,WORD\n1,tcp\n")
    with pytest.raises(UserError) as caught:
        list(read_batches(tmp_path / "a.csv", 8, DTYPES))
    assert str(caught.value) == (
        f"{tmp_path / 'a.csv'}: has no column 'number' (nor word), which the detector takes; did "
        "you mean 'NUMBER'?"
    )


def test_a_first_line_without_any_of_the_columns_should_be_a_header(tmp_path):
    (tmp_path / "a.csv").write_text("f-0,2026-01-01,0,tcp\nf-1,2026-01-01,3,udp\n")
    with pytest.raises(UserError) as caught:
        list(read_batches(tmp_path / "a.csv", 8, DTYPES))
    assert str(caught.value) == (
        f"{tmp_path / 'a.csv'}: the first line (f-0, 2026-01-01, 0 and 1 more) names none of the "
        "columns that the detector takes; it should be a header, with number, word"
    )


def test_standard_input_in_parts(monkeypatch):
    """What came before a pause is there; pauses are no lines."""
    paused, pauses = threading.Event(), lines._pauses

    def noticed(descriptor):
        if is_pause := pauses(descriptor):
            paused.set()
        return is_pause

    monkeypatch.setattr(lines, "_pauses", noticed)
    read, write = os.pipe()
    with os.fdopen(read) as stdin, os.fdopen(write, "wb", buffering=0) as source:
        monkeypatch.setattr(sys, "stdin", stdin)
        batches = read_batches(Path("-"), 10, DTYPES)
        source.write("label,number,word\na,1,é\nb,".encode())
        assert next(batches).to_numpy().tolist() == [[1, "é"]]
        source.write(b'2,"one\n')
        paused.clear()
        more = threading.Thread(target=lambda: paused.wait() and source.write(b'two"\n'))
        more.start()
        assert next(batches).to_numpy().tolist() == [["2", "one\ntwo"]]
        more.join()
        source.write(b"c,3\n")
        with pytest.raises(UserError, match="line 5 has 2 cells"):
            next(batches)


@pytest.mark.parametrize("size", [1, 2, 5, 2**16])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_standard_input_has_the_line_ends_of_files(monkeypatch, tmp_path, end, size):
    """Wherever what comes is parted; within quotes they stay what they are."""
    records = ["label,number,word", "a,1,é", f'b,2,"one{end}two"', "c,3,x"]
    (tmp_path / "a.csv").write_text(end.join(records), newline="")
    monkeypatch.setattr(lines, "BLOCK", size)
    with (tmp_path / "a.csv").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        arrived = pd.concat(read_batches(Path("-"), 10, DTYPES))
    assert arrived["word"].tolist() == ["é", f"one{end}two", "x"]
    pd.testing.assert_frame_equal(arrived, next(read_batches(tmp_path / "a.csv", 10, DTYPES)))


def test_a_cell_that_goes_on_and_on(tmp_path):
    rest = "x,1,a\n" * 30_000
    (tmp_path / "a.csv").write_text(f'label,number,word\na,1,"b\n{rest}')
    with pytest.raises(UserError, match="line 2 begins a record with a cell of more than 131,"):
        next(read_batches(tmp_path / "a.csv", 8, DTYPES))


def test_a_large_file_with_quotes(tmp_path):
    """Each of its blocks is read by csv."""
    rows = [("a", str(number), f"w{number % 7}") for number in range(20_000)]
    write(tmp_path / "a.csv", rows, csv.QUOTE_ALL)
    table = pd.concat(read_batches(tmp_path / "a.csv", 8, DTYPES))
    assert as_numbers(table["number"]).tolist() == list(range(20_000))


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UserError, match=r"pipe.csv: is a pipe or a device; it should be a file"):
        next(read_batches(tmp_path / "pipe.csv", 8, DTYPES))


def test_a_file_that_is_compressed_by_name_alone(tmp_path):
    pytest.importorskip("zstandard")
    (tmp_path / "a.csv.zst").write_text("label,number,word\na,1,b\n")
    with pytest.raises(UserError, match=r"a.csv.zst: is damaged, cut off or of another format"):
        next(read_batches(tmp_path / "a.csv.zst", 8, DTYPES))


def test_an_archive_with_a_password(tmp_path):
    path = tmp_path / "a.csv.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "label,number,word\na,1,b\n")
    content = bytearray(path.read_bytes())
    for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(header) + flags] |= 1
    path.write_bytes(content)
    for read in READERS:
        with pytest.raises(UserError, match=r"a\.csv\.zip: cannot be unpacked \(.*password"):
            read(path)


@pytest.fixture(params=["gz", "bz2", "xz", "zst"])
def compressed(request, tmp_path):
    """A path, and two records of some digits that do not compress, under a header, by its name."""
    digits = "".join(map(str, np.random.default_rng(0).integers(10, size=200_000)))
    text = f"label,number,word\n{digits[:100_000]},1,a\n{digits[100_000:]},2,b\n".encode()
    if request.param == "zst":
        zstandard = pytest.importorskip("zstandard")
        # Each line in a block of its own, so that a file that is cut off may end with a record.
        frame = zstandard.ZstdCompressor(write_content_size=False).compressobj()
        blocks = [
            frame.compress(line) + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
            for line in text.splitlines(keepends=True)
        ]
        content = b"".join(blocks) + frame.flush()
    else:
        content = {"gz": gzip, "bz2": bz2, "xz": lzma}[request.param].compress(text)
    return tmp_path / f"a.csv.{request.param}", content


READERS = [lambda path: [read_table(path)], lambda path: list(read_batches(path, 1, DTYPES))]


@pytest.mark.parametrize("read", READERS, ids=["table", "batches"])
@pytest.mark.parametrize("missing", [1, 3, 60_000])
def test_a_compressed_file_that_is_cut_off(compressed, read, missing):
    path, content = compressed
    path.write_bytes(content[:-missing])
    with pytest.raises(UserError, match=rf"{path.name}: is damaged, cut off or of another format"):
        read(path)


@pytest.mark.parametrize("read", READERS, ids=["table", "batches"])
def test_compressed_files_that_were_joined(compressed, read):
    """As gzip and zstd read them: the header of the second one is a record."""
    path, content = compressed
    path.write_bytes(content + content)
    assert pd.concat(read(path))["word"].tolist() == ["a", "b", "word", "a", "b"]
