"""What REST requests are answered, as data: request -> status and parsed body."""

import gzip
import json
from dataclasses import dataclass, field

NAN, INFINITY = float("nan"), float("inf")


@dataclass(frozen=True)
class Case:
    """One request and its answer.

    Args:
        name: What it shows.
        body: The request's; what is no text or bytes is written as JSON.
        status: HTTP status of the answer.
        answer: Parsed body of the answer, None if that is not compared.
        error: Part of the error's message, None if there is none.
    """

    name: str
    body: object = b""
    status: int = 200
    answer: object = None
    error: str | None = None
    path: str = "/v1/models/everything:predict"
    method: str = "POST"
    headers: dict = field(default_factory=dict)

    @property
    def payload(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        text = self.body if isinstance(self.body, str) else json.dumps(self.body)
        return text.encode()


def predict(name: str, signature: str, answer: object, **body) -> Case:
    return Case(name, {"signature_name": signature, **body}, answer=answer)


def refused(name: str, error: str, body: object, **more) -> Case:
    return Case(name, body, status=400, error=error, **more)


def echo(dtype: str, *values, answer: list | None = None) -> Case:
    return predict(
        f"{dtype} {values}",
        f"echo_{dtype}",
        {"predictions": list(values) if answer is None else answer},
        instances=list(values),
    )


def not_echoed(dtype: str, token: str, error: str = "is not of expected type") -> Case:
    return refused(
        f"{dtype} {token}",
        error,
        f'{{"signature_name": "echo_{dtype}", "instances": [{token}]}}',
    )


FOUR = [[1.0, 2.0, 3.0, 4.0]]
DOT = [[40.0, 50.0]]

FORMATS = [
    Case("rows", {"instances": FOUR}, answer={"predictions": DOT}),
    Case("columns", {"inputs": FOUR}, answer={"outputs": DOT}),
    Case("rows of objects", {"instances": [{"a": FOUR[0]}]}, answer={"predictions": DOT}),
    Case("columns by name", {"inputs": {"a": FOUR}}, answer={"outputs": DOT}),
    Case("columns ignore other names", {"inputs": {"a": FOUR, "b": 1}}, answer={"outputs": DOT}),
    Case("unknown keys", {"instances": FOUR, "more": [None]}, answer={"predictions": DOT}),
    Case("empty signature name", {"signature_name": "", "inputs": FOUR}, answer={"outputs": DOT}),
    predict("no rows in columns", "echo_float32", {"outputs": []}, inputs=[]),
    predict(
        "several inputs and outputs in rows",
        "pair",
        {"predictions": [{"twice": 2, "length": 3}, {"twice": -4, "length": 0}]},
        instances=[{"number": 1, "text": "abc"}, {"text": "", "number": -2}],
    ),
    predict(
        "several inputs and outputs in columns",
        "pair",
        {"outputs": {"twice": [2], "length": [2]}},
        inputs={"number": [1], "text": ["\u00e9"]},
    ),
    predict("scalar in columns", "scalar", {"outputs": 3.0}, inputs=2),
    predict("scalar answer", "total", {"outputs": 3.0}, inputs=[1, 2]),
    predict("scalar of text", "echo_string", {"outputs": "\u00e9\0"}, inputs="\u00e9\0"),
    predict("scalars may be vectors", "scalar", {"outputs": [3.0]}, inputs=[2]),
    predict(
        "nested lists",
        "cube",
        {"predictions": [{"total": 10, "same": [[1, 2], [3, 4]]}]},
        instances=[[[1, 2], [3, 4]]],
    ),
    predict(
        "empty inner lists",
        "cube",
        {"outputs": {"total": [0, 0], "same": [[[]], [[]]]}},
        inputs=[[[]], [[]]],
    ),
    Case("text after the object", '{"inputs": [[1,2,3,4]]} and more', answer={"outputs": DOT}),
    Case("space before the object", ' \t\r\n{"inputs": [[1,2,3,4]]}', answer={"outputs": DOT}),
    Case(
        "the first of equal keys",
        '{"inputs": [[1,2,3,4]], "inputs": 7, "signature_name": "", "signature_name": "no"}',
        answer={"outputs": DOT},
    ),
    Case(
        "gzip",
        gzip.compress(json.dumps({"inputs": FOUR}).encode()),
        answer={"outputs": DOT},
        headers={"Content-Encoding": "gzip"},
    ),
    Case(
        "content type is ignored",
        {"inputs": FOUR},
        answer={"outputs": DOT},
        headers={"Content-Type": "image/png"},
    ),
]

FORMAT_ERRORS = [
    refused("empty body", "The document is empty", b""),
    refused("blank body", "The document is empty", b" \n"),
    refused("no JSON", "JSON Parse error", "{"),
    refused("byte order mark", "JSON Parse error", b'\xef\xbb\xbf{"inputs": [[1,2,3,4]]}'),
    refused("trailing comma", "JSON Parse error", '{"inputs": [[1,2,3,4],]}'),
    refused("single quotes", "JSON Parse error", "{'inputs': 1}"),
    refused("half a surrogate pair", "JSON Parse error", r'{"inputs": "\ud800"}'),
    refused("control character", "JSON Parse error", b'{"inputs": "\x01"}'),
    refused("too large a number", "JSON Parse error", '{"inputs": [[1e400, 0, 0, 0]]}'),
    refused("a list", "Is not object", "[1]"),
    refused("a number", "Is not object", "1"),
    refused("neither key", "Missing 'inputs' or 'instances' key", {}),
    refused("both keys", "expecting only one of", {"instances": FOUR, "inputs": FOUR}),
    refused("rows that are no list", "list/array", {"instances": {"a": FOUR}}),
    refused("no rows", "No values in 'instances'", {"instances": []}),
    refused("signature name is a number", "must be a string", {"signature_name": 1}),
    refused(
        "unknown signature",
        'Serving signature name: "none" not found in signature def',
        {"signature_name": "none", "inputs": FOUR},
    ),
    refused("missing column", "Missing named input: a", {"inputs": {"b": FOUR}}),
    refused(
        "missing key in a row",
        "keys must be equal to",
        {"signature_name": "pair", "instances": [{"number": 1}]},
    ),
    refused(
        "another key in a row",
        "does not have named input: c",
        {"signature_name": "pair", "instances": [{"number": 1, "text": "", "c": 1}]},
    ),
    refused(
        "plain rows for several inputs",
        "list of objects",
        {"signature_name": "pair", "instances": [1]},
    ),
    refused(
        "a plain column for several inputs",
        "expecting an object",
        {"signature_name": "pair", "inputs": [1]},
    ),
    refused("object among values", "item 1", {"instances": [FOUR[0], {"a": FOUR[0]}]}),
    refused("value among objects", "item 1", {"instances": [{"a": FOUR[0]}, FOUR[0]]}),
    refused("ragged rows", "Failed to process element: 1", {"instances": [[1, 2], [3]]}),
    refused("ragged column", "Encountered list at unexpected size", {"inputs": [[1, 2], [3]]}),
    refused("value among lists", "incorrect level", {"inputs": [[1], 2]}),
    refused("list among values", "unexpected level", {"inputs": [1, [2]]}),
    refused("the graph refuses the shape", "Matrix size-incompatible", {"inputs": [[1, 2]]}),
    refused(
        "a default is not known to REST",
        "Missing named input: threshold",
        {"signature_name": "with_default", "inputs": {"x": [1]}},
    ),
    refused(
        "scalar output in rows",
        "Tensor name: y has no shape information",
        {"signature_name": "total", "instances": [1]},
    ),
    refused(
        "outputs of several lengths in rows",
        "inconsistent batch size",
        {"signature_name": "uneven", "instances": [1, 2]},
    ),
    refused(
        "no gzip",
        "",
        {"inputs": FOUR},
        headers={"Content-Encoding": "gzip"},
    ),
]

TYPES = [
    echo("float32", 1.5, -2, 0.1, 16777217, answer=[1.5, -2.0, 0.1, 16777216.0]),
    echo(
        "float32", 3.4028235e38, 1e-45, 123456.789, answer=[3.40282347e38, 1.4013e-45, 123456.789]
    ),
    echo(
        "float64", 0.1, 1e300, 3, 0.30000000000000004, answer=[0.1, 1e300, 3.0, 0.30000000000000004]
    ),
    echo("float32", 1e300, -1e300, answer=[INFINITY, -INFINITY]),
    echo("int8", 127, -128, 128, 256, answer=[127, -128, -128, 0]),
    echo("uint8", 0, 255, 256, -1, answer=[0, 255, 0, 255]),
    echo("int16", 32767, 32768, answer=[32767, -32768]),
    echo("int32", 2147483647, -2147483648),
    echo("int64", 9223372036854775807, -9223372036854775808),
    echo("uint32", 0, 4294967295),
    echo("uint64", 0, 18446744073709551615),
    echo("bool", True, False),
    echo("string", "", "abc", "\u00e9\u4e2d\U0001f600", '"\\/\b\f\n\r\t\u0001'),
    echo("string", {"b64": "YWJj"}, {"b64": "YQ"}, {"b64": "YQ=="}, answer=["abc", "a", "a"]),
    Case(
        "not finite numbers",
        '{"signature_name": "echo_float32", "inputs": [NaN, -NaN, Inf, -Inf, Infinity, -Infinity]}',
        answer={"outputs": [NAN, NAN, INFINITY, -INFINITY, INFINITY, -INFINITY]},
    ),
    predict(
        "not finite answers",
        "not_finite",
        {"predictions": [[INFINITY, -INFINITY, NAN]]},
        instances=[1],
    ),
    predict(
        "outputs named bytes",
        "strings",
        {"predictions": [{"text": "a\u00e9", "same_bytes": {"b64": "YcOp"}}]},
        instances=["a\u00e9"],
    ),
    Case(
        "bytes that are no UTF-8",
        {"signature_name": "echo_string", "inputs": [{"b64": "/w=="}]},
        answer={"outputs": ["\udcff"]},
    ),
    not_echoed("float32", '"1"'),
    not_echoed("float32", "null"),
    not_echoed("float32", "true"),
    not_echoed("float32", "{}", ""),
    not_echoed("int32", "1.0"),
    not_echoed("int32", "1e2"),
    not_echoed("int32", "2147483648"),
    not_echoed("int8", "2147483648"),
    not_echoed("int64", "9223372036854775808"),
    not_echoed("int64", "1" + "0" * 5000, ""),
    not_echoed("uint32", "-1"),
    not_echoed("uint64", "-1"),
    not_echoed("uint64", "18446744073709551616"),
    not_echoed("bool", "1"),
    not_echoed("bool", '"true"'),
    not_echoed("string", "1"),
    not_echoed("string", "null"),
    not_echoed("string", '{"b64": 1}', ""),
    not_echoed("string", '{"b64": "YQ==", "more": 1}', ""),
    not_echoed("string", '{"b64": "Y-_="}', "Unable to base64 decode"),
    not_echoed("string", '{"b64": "Y"}', "Unable to base64 decode"),
    not_echoed("string", '{"b64": "YQ="}', "Unable to base64 decode"),
    not_echoed("float16", "1", "UNIMPLEMENTED"),
    not_echoed("bfloat16", "1.0", "UNIMPLEMENTED"),
    not_echoed("complex64", "1", "UNIMPLEMENTED"),
]

GRAPH_ERRORS = [
    predict("an assertion holds", "picky", {"predictions": [2.0]}, instances=[4]),
    refused("an assertion fails", "negative value", {"signature_name": "picky", "instances": [-1]}),
    refused(
        "numbers are checked",
        "not finite",
        '{"signature_name": "out_of_range", "instances": [NaN]}',
    ),
]

PATHS = [
    Case("path in any case", {"inputs": FOUR}, path="/V1/Models/everything:predict"),
    Case(
        "a version",
        {"inputs": [1]},
        answer={"outputs": [11.0]},
        path="/v1/models/adder/versions/1:predict",
    ),
    Case(
        "the newest version",
        {"inputs": [1]},
        answer={"outputs": [21.0]},
        path="/v1/models/adder:predict",
    ),
    Case(
        "a label",
        {"inputs": [1]},
        answer={"outputs": [11.0]},
        path="/v1/models/adder/labels/stable:predict",
    ),
    Case(
        "percent signs",
        {"inputs": [1]},
        answer={"outputs": [21.0]},
        path="/v1/models/%61dder/labels/%63anary:predict",
    ),
    Case(
        "unknown model",
        {"inputs": [1]},
        status=404,
        error="Servable not found for request: Latest(nothing)",
        path="/v1/models/nothing:predict",
    ),
    Case(
        "unknown version",
        {"inputs": [1]},
        status=404,
        error="Servable not found for request: Specific(adder, 7)",
        path="/v1/models/adder/versions/7:predict",
    ),
    refused(
        "unknown label",
        "Unrecognized servable version label: none",
        {"inputs": [1]},
        path="/v1/models/adder/labels/none:predict",
    ),
    refused(
        "bad JSON to an unknown model", "JSON Parse error", "{", path="/v1/models/nothing:predict"
    ),
    *(
        Case(
            f"{method} {path}", b"", status=400, error="Malformed request", path=path, method=method
        )
        for method, path in (
            ("POST", "/v1/models/everything:PREDICT"),
            ("POST", "/v1/models/everything:predicts"),
            ("POST", "/v1/models/everything"),
            ("POST", "/v1/models/everything/versions/x:predict"),
            ("POST", "/v1/models/everything:predict/"),
            ("POST", "/v1/models/everything:predict?a=b"),
            ("POST", "/v1/models/a/b:predict"),
            ("GET", "/v1/models/everything:predict"),
            ("GET", "/v1/models/everything/"),
            ("GET", "/v1/models/"),
            ("GET", "/v1/nothing"),
            ("PUT", "/v1/models/everything:predict"),
            ("DELETE", "/v1/models/everything"),
            ("OPTIONS", "/v1/models/everything"),
        )
    ),
    Case("HEAD", status=400, path="/v1/models/everything", method="HEAD"),
    Case(
        "preflight",
        path="/v1/models/everything:predict",
        method="OPTIONS",
        headers={"Origin": "http://example.com"},
    ),
    Case(
        "no model",
        status=400,
        error="Missing model name in request.",
        path="/v1/models",
        method="GET",
    ),
    Case(
        "a version beyond int64",
        status=400,
        method="GET",
        path="/v1/models/everything/versions/9223372036854775808",
    ),
    Case("another path", status=404, path="/nothing", method="GET"),
    Case("the root", status=404, path="/", method="GET"),
]

AVAILABLE = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}

INFORMATION = [
    Case(
        "status",
        path="/v1/models/adder",
        method="GET",
        answer={
            "model_version_status": [{"version": "2", **AVAILABLE}, {"version": "1", **AVAILABLE}]
        },
    ),
    Case(
        "status of a version",
        path="/v1/models/adder/versions/1",
        method="GET",
        answer={"model_version_status": [{"version": "1", **AVAILABLE}]},
    ),
    Case(
        "status of an unknown model",
        status=404,
        path="/v1/models/nothing",
        method="GET",
        error="Could not find any versions of model nothing",
    ),
    Case(
        "status of an unknown version",
        status=404,
        path="/v1/models/adder/versions/9",
        method="GET",
        error="Could not find version 9 of model adder",
    ),
    Case(
        "metadata of an unknown model",
        status=404,
        path="/v1/models/nothing/metadata",
        method="GET",
        error="Servable not found for request: Latest(nothing)",
    ),
    Case(
        "metadata of an unknown version",
        status=404,
        path="/v1/models/adder/versions/9/metadata",
        method="GET",
        error="Servable not found for request: Specific(adder, 9)",
    ),
]


def examples(name: str, verb: str, signature: str, answer: object, **body) -> Case:
    return Case(
        name,
        {"signature_name": signature, **body},
        answer=answer,
        path=f"/v1/models/everything:{verb}",
    )


def no_examples(name: str, error: str, body: object, verb: str = "classify") -> Case:
    return Case(name, body, status=400, error=error, path=f"/v1/models/everything:{verb}")


def one_feature(value: object) -> dict:
    return {"signature_name": "regress", "examples": [{"x": value}]}


EXAMPLES = [
    examples(
        "classify",
        "classify",
        "classify",
        {"results": [[["left", 1.0], ["right", 2.5]], [["left", 3.0], ["right", 4.0]]]},
        examples=[{"x": [1.0, 2.5]}, {"x": [3.0, 4.0]}],
    ),
    examples(
        "classify without classes",
        "classify",
        "classify_scores",
        {"results": [[["", 1.0], ["", 2.5]]]},
        examples=[{"x": [1.0, 2.5]}],
    ),
    examples(
        "context",
        "classify",
        "classify_scores",
        {"results": [[["", 11.0], ["", 12.5]]]},
        examples=[{"x": [1.0, 2.5]}],
        context={"shift": 10.0},
    ),
    examples(
        "regress",
        "regress",
        "regress",
        {"results": [3.5, 7.0]},
        examples=[{"x": [1.0, 2.5]}, {"x": [3.0, 4.0]}],
    ),
    examples(
        "regress a column",
        "regress",
        "regress_matrix",
        {"results": [3.5]},
        examples=[{"x": [1.0, 2.5]}],
    ),
    no_examples("examples missing", "'examples'", {"signature_name": "classify"}),
    no_examples("examples are no list", "list/array", {"examples": {}}),
    no_examples("no examples", "empty array", {"examples": []}),
    no_examples("an example is a list", "must be JSON object", {"examples": [[1]]}),
    no_examples("context is a list", "must be JSON object", {"context": [], "examples": [{}]}),
    no_examples(
        "unknown signature",
        "No signature was found with the name: none",
        {"signature_name": "none", "examples": [{"x": 1.0}]},
    ),
    no_examples(
        "default signature", "inputs found in SignatureDef", {"examples": [{"x": 1.0}]}, "regress"
    ),
    no_examples(
        "wrong alias",
        "No regression inputs found in SignatureDef",
        {"signature_name": "wrong_alias", "examples": [{"x": 1.0}]},
        "regress",
    ),
    no_examples("classify a regression", "", {**one_feature([1.0, 2.0])}),
    no_examples(
        "regress two values",
        "Expected output Tensor shape",
        {"signature_name": "regress_wide", "examples": [{"x": [1.0, 2.0]}]},
        "regress",
    ),
    no_examples("integers are no floats", "", one_feature([1, 2]), "regress"),
    no_examples("mixed features", "Unexpected element type", one_feature([1.0, 2]), "regress"),
    no_examples("null", "unexpected JSON type", one_feature(None), "regress"),
    no_examples("lists in lists", "unexpected JSON type", one_feature([[1.0]]), "regress"),
    no_examples("uint64", "Only int64 is supported", one_feature(2**63), "regress"),
    no_examples("missing feature", "", {"signature_name": "regress", "examples": [{}]}, "regress"),
]

CASES = [
    *FORMATS,
    *FORMAT_ERRORS,
    *TYPES,
    *GRAPH_ERRORS,
    *PATHS,
    *INFORMATION,
    *EXAMPLES,
]
