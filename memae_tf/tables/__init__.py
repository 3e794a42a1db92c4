"""Reads tables from CSV and Parquet files, with errors that a user can act on."""

from memae_tf.tables.files import Files, source_name
from memae_tf.tables.names import MOST_NAMED, listed, missing_column, near
from memae_tf.tables.numbers import as_float32, as_numbers, not_a_number, parsed, stray_text
from memae_tf.tables.reading import read_batches, read_table, read_tables, read_words

__all__ = [
    "MOST_NAMED",
    "Files",
    "as_float32",
    "as_numbers",
    "listed",
    "missing_column",
    "near",
    "not_a_number",
    "parsed",
    "read_batches",
    "read_table",
    "read_tables",
    "read_words",
    "source_name",
    "stray_text",
]
