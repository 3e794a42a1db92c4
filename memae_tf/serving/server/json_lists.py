"""Long lists of a JSON document, whose elements are Python objects a block at a time only.

`[0],` is four bytes of text and more than a hundred as Python's list.
"""

import itertools
import json
import marshal
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from memae_tf.serving.wire.tensors import MAX_RANK

BLOCK_CHARACTERS = 2**16
_SPACE = re.compile(r"[ \t\r\n]*")
_END = re.compile(r'"?[\]} \t\r\n]*\Z')
_START = re.compile(r'[ \t\r\n]*,[\[{ \t\r\n]*"?')
_LONGEST_END = 1000
_NUMBERS_AS_ZEROS = str.maketrans("123456789+-.eE", "0" * 14, " \t\r\n")
_NO_BRACKETS = str.maketrans("", "", "[]")


@dataclass(frozen=True)
class NumberBlock:
    """Rectangular lists of numbers: the numbers one after another, and the shape of all."""

    numbers: list[int | float]
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[list]:
        return iter(np.array(self.numbers, object).reshape(self.shape).tolist())


class LongList:
    """A list that is read again and again, a block of its elements at a time.

    Args:
        blocks: The blocks, marshalled, and the shapes of those that are numbers.
    """

    def __init__(self, blocks: list[tuple[bytes, tuple[int, ...] | None]]):
        self._blocks = blocks

    def blocks(self) -> Iterator[list | NumberBlock]:
        """The elements in blocks, none of them empty."""
        for marshalled, shape in self._blocks:
            values = marshal.loads(marshalled)
            yield values if shape is None else NumberBlock(values, shape)

    def __iter__(self) -> Iterator[object]:
        return itertools.chain.from_iterable(self.blocks())


def blocks_of(values: list | LongList) -> Iterator[list | NumberBlock]:
    """A list's blocks; of a plain list that is one, itself."""
    return values.blocks() if isinstance(values, LongList) else iter([values])


def read_object(
    text: str,
    start: int,
    decoder: json.JSONDecoder,
    make: Callable[[list[tuple[str, object]]], object],
    long_objects: tuple[str, ...] = (),
) -> tuple[object, int]:
    """The object that begins at a place in a text, and where it ends.

    Lists that are its values may be `LongList`s, and so those in its values of the keys
    `long_objects`; all else is as the decoder reads it.

    Raises:
        json.JSONDecodeError: If there is none.
    """
    pairs = []
    position = _after_space(text, start + 1)
    if text[position : position + 1] == "}":
        return make(pairs), position + 1
    while True:
        if text[position : position + 1] != '"':
            raise json.JSONDecodeError(
                "Expecting property name enclosed in double quotes", text, position
            )
        key, position = decoder.raw_decode(text, position)
        position = _after_space(text, position)
        if text[position : position + 1] != ":":
            raise json.JSONDecodeError("Expecting ':' delimiter", text, position)
        position = _after_space(text, position + 1)
        opening = text[position : position + 1]
        if opening == "[":
            value, position = _read_list(text, position, decoder)
        elif opening == "{" and key in long_objects:
            value, position = read_object(text, position, decoder, make)
        else:
            value, position = decoder.raw_decode(text, position)
        pairs.append((key, value))
        position, is_over = _after_value(text, position, "}")
        if is_over:
            return make(pairs), position


def _read_list(text: str, start: int, decoder: json.JSONDecoder) -> tuple[list | LongList, int]:
    blocks, block, pattern = [], [], None
    position, is_over = _after_space(text, start + 1), False
    if text[position : position + 1] == "]":
        return block, position + 1
    block_start = position
    while not is_over:
        value, end = decoder.raw_decode(text, position)
        block.append(value)
        if pattern is None:
            pattern = _Pattern.of(value, text, position, end)
        position, is_over = _after_value(text, end, "]")
        if is_over and not blocks:
            return block, position
        if is_over or position - block_start > BLOCK_CHARACTERS:
            blocks.append((marshal.dumps(block), None))
            block = []
            while not is_over and (run := pattern.read_run(text, position, decoder)):
                values, shape, position = run
                blocks.append((marshal.dumps(values), shape))
            block_start = position
    return LongList(blocks), position


@dataclass(frozen=True)
class _Pattern:
    """What a list's first element tells of the others, if they are alike.

    Attributes:
        separator: The comma with the brackets and quotes around it: where elements are nested or
            have commas inside, the comma alone is not the end of one.
        comma: Where in it the comma is.
        length: That of the element's text.
        shape: Of an element that is nested lists of numbers.
        brackets: All that the text of such an element is besides numbers and spaces.
    """

    separator: str
    comma: int
    length: int
    shape: tuple[int, ...]
    brackets: str

    @classmethod
    def of(cls, value: object, text: str, start: int, end: int) -> "_Pattern":
        before = _END.search(text[max(start, end - _LONGEST_END) : end])[0]
        after = _START.match(text, end)
        separator = "" if after is None else before + after[0]
        comma = separator.find(",", len(before))
        brackets = text[start:end].translate(_NUMBERS_AS_ZEROS).replace("0", "")
        return cls(separator, comma, end - start, _shape(value), brackets)

    def read_run(
        self, text: str, start: int, decoder: json.JSONDecoder
    ) -> tuple[list, tuple[int, ...] | None, int] | None:
        """A block of elements in one go, and where the next begins, if a guess at its end is right.

        What is parsed ends before some comma of the text. If that, in brackets of its own, is a
        whole list, then the comma is none of a string's or of a list's inside, and the text goes on
        behind it.
        """
        least = start + BLOCK_CHARACTERS
        found = text.find(self.separator, least, least + 4 * max(BLOCK_CHARACTERS, self.length))
        if not self.separator or found < 0:
            return None
        run = text[start : found + self.comma]
        shape = self._shape_of(run)
        try:
            values = _whole_list(run if shape is None else run.translate(_NO_BRACKETS), decoder)
        except json.JSONDecodeError:
            return None
        return values, shape, _after_space(text, found + self.comma + 1)

    def _shape_of(self, run: str) -> tuple[int, ...] | None:
        """The shape of a run that is the first element's brackets around numbers, again and again.

        Between two commas is one number then, if without the brackets they are a list; it is in its
        brackets if it has none of them on its wrong side.
        """
        if not self.shape:
            return None
        zeros = run.translate(_NUMBERS_AS_ZEROS)
        if "0[" in zeros or "]0" in zeros:
            return None
        brackets = zeros.replace("0", "")
        number = (len(brackets) + 1) // (len(self.brackets) + 1)
        if brackets != ",".join([self.brackets] * number):
            return None
        return (number, *self.shape)


def _shape(value: object) -> tuple[int, ...]:
    """That of lists of numbers in lists, none of them empty; () of everything else."""
    try:
        array = np.array(value)
    except (ValueError, OverflowError):
        return ()
    is_regular = array.dtype.kind in "iuf" and array.size and array.ndim < MAX_RANK
    return array.shape if is_regular else ()


def _whole_list(elements: str, decoder: json.JSONDecoder) -> list:
    text = f"[{elements}]"
    values, end = decoder.raw_decode(text)
    if not values or end != len(text):
        raise json.JSONDecodeError("Expecting elements alone", text, end)
    return values


def _after_space(text: str, position: int) -> int:
    return _SPACE.match(text, position).end()


def _after_value(text: str, position: int, closing: str) -> tuple[int, bool]:
    """Where the next element begins, or, with True, where the list or object has ended."""
    position = _after_space(text, position)
    character = text[position : position + 1]
    if character == closing:
        return position + 1, True
    if character != ",":
        raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
    return _after_space(text, position + 1), False
