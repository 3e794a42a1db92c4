"""JSON as TensorFlow Serving's parser reads it.

Python's own parser differs in a few things: it takes the last of duplicate keys, lets numbers
overflow to infinity, does not know `Inf` and `-NaN`, and accepts half of a surrogate pair.
"""

import json
import re

from memae_tf.serving.server.json_lists import LongList, read_object
from memae_tf.serving.wire.status import invalid_argument

# Longer lists are not turned into Python objects all at once.
LONG_BYTES = 2**20

# An open string extends to the end, as otherwise every quote in it would be tried as a start.
_STRING = r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)'
_OTHER_CONSTANTS = re.compile(rf"{_STRING}|-?Inf(?:inity)?|-NaN", re.DOTALL)
# Only with such exponents or so many digits can a number be too large for a double, or an integer
# too long for Python. To find them, all digits are first made zeros, as a regular expression for
# any digits would take as long as the parsing itself.
_DIGITS_AS_ZEROS = bytes.maketrans(b"123456789E", b"000000000e")
_MAYBE_TOO_BIG = (b"e000", b"e+000", b"0" * 200)
_TRANSLATED_BYTES = 2**20
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


def parse_object(body: bytes | bytearray) -> dict:
    """The JSON object at the start of a body.

    Strings keep bytes that are not UTF-8, as surrogate escapes. If the body is long, lists that are
    values of the object, or of the object `inputs` in it, may be `LongList`s.

    Raises:
        ServingError: INVALID_ARGUMENT if there is no object.
    """
    text = body.decode("utf-8", "surrogateescape").lstrip(" \t\r\n")
    if not text:
        raise invalid_argument("JSON Parse error: The document is empty at offset: 0")
    if "Inf" in text or "-NaN" in text:
        text = _OTHER_CONSTANTS.sub(_python_constant, text)
    if "\\u" in text:
        _check_surrogates(text)
    decoder = _careful if _may_be_too_big(body) else _decoder
    try:
        if len(body) > LONG_BYTES and text[0] == "{":
            document, _ = read_object(text, 0, decoder, _first_wins, ("inputs",))
        else:
            document, _ = decoder.raw_decode(text)
    except json.JSONDecodeError as error:
        raise invalid_argument(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except RecursionError:
        raise invalid_argument("JSON Parse error: Nested too deeply.") from None
    if not isinstance(document, dict):
        raise invalid_argument(f"JSON Value: {shown(document)} Is not object")
    return document


def shown(value: object) -> str:
    """A JSON value for messages, cut if it is long."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=lambda rows: next(rows.blocks()))
    except RecursionError:
        text = "..."
    return text if len(text) <= 200 else text[:200] + "..."


def type_name(value: object) -> str:
    """The server's name for the type of a JSON value."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    names = {dict: "Object", list: "Array", LongList: "Array", str: "String"}
    return names.get(type(value), "Number")


def encode(document: object) -> bytes:
    """JSON text, with bytes that are not UTF-8 restored from surrogate escapes."""
    return to_bytes(json.dumps(document, ensure_ascii=False))


def to_bytes(text: str) -> bytes:
    """The bytes of a text with surrogate escapes."""
    return text.encode("utf-8", "surrogateescape")


def _may_be_too_big(body: bytes | bytearray) -> bool:
    overlap = max(map(len, _MAYBE_TOO_BIG)) - 1
    for start in range(0, len(body), _TRANSLATED_BYTES):
        part = body[start : start + _TRANSLATED_BYTES + overlap]
        zeros = part.translate(_DIGITS_AS_ZEROS)
        if any(token in zeros for token in _MAYBE_TOO_BIG):
            return True
    return False


def _first_wins(pairs: list[tuple[str, object]]) -> dict:
    document = dict(pairs)
    if len(document) != len(pairs):
        document = dict(reversed(pairs))
    return document


def _float(token: str) -> float:
    value = float(token)
    if value in (float("inf"), float("-inf")):
        raise invalid_argument("JSON Parse error: Number too big to be stored in double.")
    return value


def _int(token: str) -> int | float:
    return int(token) if len(token) < 100 else _float(token)


_decoder = json.JSONDecoder(object_pairs_hook=_first_wins)
_careful = json.JSONDecoder(object_pairs_hook=_first_wins, parse_float=_float, parse_int=_int)


def _python_constant(match: re.Match) -> str:
    token = match[0]
    if token[0] == '"':
        return token
    if token == "-NaN":
        return "NaN"
    return "-Infinity" if token[0] == "-" else "Infinity"


def _check_surrogates(text: str) -> None:
    open_until = -1
    for match in _ESCAPE.finditer(text):
        unit = int(match[1], 16) if match[1] else 0
        is_low = 0xDC00 <= unit <= 0xDFFF
        if (match.start() == open_until) != is_low or (open_until >= 0 and not is_low):
            raise invalid_argument("JSON Parse error: The surrogate pair in string is invalid.")
        open_until = match.end() if 0xD800 <= unit <= 0xDBFF else -1
    if open_until >= 0:
        raise invalid_argument("JSON Parse error: The surrogate pair in string is invalid.")
