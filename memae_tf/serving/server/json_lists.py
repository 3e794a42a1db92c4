"""Long lists in a JSON document, of which one block at a time is turned into Python objects.

`[0],` takes four bytes as text, and more than a hundred as a list in Python.
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
    """Nested lists of numbers without gaps: all numbers in a row, and their shape."""

    numbers: list[int | float]
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[list]:
        return iter(np.array(self.numbers, object).reshape(self.shape).tolist())


class LongList:
    """A list that can be read repeatedly, one block of elements at a time.

    Args:
        blocks: The marshalled blocks, with the shapes of those that are numbers.
    """

    def __init__(self, blocks: list[tuple[bytes, tuple[int, ...] | None]]):
        self._blocks = blocks

    def blocks(self) -> Iterator[list | NumberBlock]:
        """The elements in blocks, of which none is empty."""
        for marshalled, shape in self._blocks:
            values = marshal.loads(marshalled)
            yield values if shape is None else NumberBlock(values, shape)

    def __iter__(self) -> Iterator[object]:
        return itertools.chain.from_iterable(self.blocks())


def blocks_of(values: list | LongList) -> Iterator[list | NumberBlock]:
    """The blocks of a list; a plain list is its own only block."""
    return values.blocks() if isinstance(values, LongList) else iter([values])


def read_object(
    text: str,
    start: int,
    decoder: json.JSONDecoder,
    make: Callable[[list[tuple[str, object]]], object],
    long_objects: tuple[str, ...] = (),
) -> tuple[object, int]:
    """The object that starts at a place in a text, and its end.

    Lists may be `LongList`s if they are values of the object, or of an object in it whose key is in
    `long_objects`; everything else is read by the decoder.

    Raises:
        json.JSONDecodeError: If there is no object.
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
    """A description of a list's first element, for reading others that are alike.

    Attributes:
        separator: The comma with the brackets and quotes around it, as a comma alone may be inside
            of an element.
        comma: The place of the comma in the separator.
        length: The length of the element's text.
        shape: The shape of an element that is nested lists of numbers.
        brackets: The text of such an element without numbers and spaces.
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
        """A block of elements, parsed at once, and the start of the next, if a guess is right.

        The guess is a comma of the text at which the block ends. If the part before it, in
        brackets, is a whole list, then the comma is not inside of a string or an inner list, and
        the text continues after it.
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
        """The shape of a run in which the brackets of the first element repeat around numbers.

        If the run without brackets is a list, there is one number between two commas. A number is
        in the right brackets if none of them is on its wrong side.
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
    """The shape of nested lists of numbers, of which none is empty; () for everything else."""
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
    """The start of the next element, or the end of the list or object and True."""
    position = _after_space(text, position)
    character = text[position : position + 1]
    if character == closing:
        return position + 1, True
    if character != ",":
        raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
    return _after_space(text, position + 1), False
