"""What gRPC requests are answered, as data: text proto -> code and values."""

from dataclasses import dataclass

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


@dataclass(frozen=True)
class Case:
    """One call and its answer.

    Args:
        name: What it shows.
        call: Method of PredictionService or ModelService.
        request: Text proto of its request.
        code: Name of the status code.
        error: Part of the status's message.
        outputs: Of Predict, the values by alias.
        answer: Text proto of the whole response, None if that is not compared.
    """

    name: str
    call: str
    request: str
    code: str = "OK"
    error: str = ""
    outputs: dict | None = None
    answer: str | None = None


def dims(*sizes: int) -> str:
    return " ".join(f"dim {{size: {size}}}" for size in sizes)


def floats(values: list[float], *shape: int) -> str:
    text = " ".join(f"float_val: {value}" for value in values)
    return f"dtype: DT_FLOAT tensor_shape {{{dims(*(shape or [len(values)]))}}} {text}"


def typed(dtype: str, field: str, *values) -> str:
    text = " ".join(f"{field}: {value}" for value in values)
    return f"dtype: {dtype} tensor_shape {{{dims(len(values))}}} {text}"


def inputs(**tensors: str) -> str:
    return " ".join(
        f'inputs {{key: "{alias}" value {{{tensor}}}}}' for alias, tensor in tensors.items()
    )


def model(signature: str = "", name: str = "everything", more: str = "") -> str:
    return f'model_spec {{name: "{name}" signature_name: "{signature}" {more}}}'


def predict(name: str, signature: str, outputs: dict, more: str = "", **tensors: str) -> Case:
    request = f"{model(signature)} {inputs(**tensors)} {more}"
    return Case(name, "Predict", request, outputs=outputs)


def refused(
    name: str, code: str, error: str, signature: str = "", more: str = "", **tensors: str
) -> Case:
    request = f"{model(signature)} {inputs(**tensors)} {more}"
    return Case(name, "Predict", request, code, error)


A = floats([1, 2, 3, 4], 1, 4)
VERSION_1, VERSION_7 = "version {value: 1}", "version {value: 7}"
ONE = floats([1])

PREDICT = [
    predict("default signature", "", {"y": [[40.0, 50.0]]}, a=A),
    predict("named signature", "serving_default", {"y": [[40.0, 50.0]]}, a=A),
    predict("scalars may be vectors", "scalar", {"y": [2.0]}, x=ONE),
    predict("a scalar", "scalar", {"y": 2.0}, x="dtype: DT_FLOAT tensor_shape {} float_val: 1"),
    predict(
        "a scalar of bytes",
        "echo_string",
        {"y": b"\xff\0"},
        x=r'dtype: DT_STRING tensor_shape {} string_val: "\377\000"',
    ),
    predict(
        "several inputs",
        "pair",
        {"twice": [2], "length": [3]},
        number=typed("DT_INT64", "int64_val", 1),
        text=typed("DT_STRING", "string_val", '"abc"'),
    ),
    predict(
        "some of the outputs",
        "pair",
        {"length": [3]},
        'output_filter: "length"',
        number=typed("DT_INT64", "int64_val", 1),
        text=typed("DT_STRING", "string_val", '"abc"'),
    ),
    predict("a default", "with_default", {"above": [True]}, x=ONE),
    predict("not the default", "with_default", {"above": [False]}, x=ONE, threshold=floats([2])),
    predict(
        "the last value is repeated", "echo_float32", {"y": [1.0, 2.0, 2.0]}, x=floats([1, 2], 3)
    ),
    predict("no values are zeros", "echo_float32", {"y": [0.0, 0.0]}, x=floats([], 2)),
    predict("no rows", "echo_float32", {"y": []}, x=floats([], 0)),
    predict(
        "content",
        "echo_float32",
        {"y": [1.0]},
        x=r'dtype: DT_FLOAT tensor_shape {dim {size: 1}} tensor_content: "\000\000\200?"',
    ),
    predict(
        "content of strings",
        "echo_string",
        {"y": [b"a", b"bc"]},
        x=r'dtype: DT_STRING tensor_shape {dim {size: 2}} tensor_content: "\001\002abc"',
    ),
    *(
        predict(f"{dtype} is echoed", f"echo_{dtype}", {"y": values}, x=tensor)
        for dtype, values, tensor in (
            ("float64", [0.1], typed("DT_DOUBLE", "double_val", 0.1)),
            ("int8", [-128], typed("DT_INT8", "int_val", -128)),
            ("int16", [-32768], typed("DT_INT16", "int_val", -32768)),
            ("int32", [-(2**31)], typed("DT_INT32", "int_val", -(2**31))),
            ("int64", [2**63 - 1], typed("DT_INT64", "int64_val", 2**63 - 1)),
            ("uint8", [255], typed("DT_UINT8", "int_val", 255)),
            ("uint16", [65535], typed("DT_UINT16", "int_val", 65535)),
            ("uint32", [2**32 - 1], typed("DT_UINT32", "uint32_val", 2**32 - 1)),
            ("uint64", [2**64 - 1], typed("DT_UINT64", "uint64_val", 2**64 - 1)),
            ("bool", [True, False], typed("DT_BOOL", "bool_val", "true", "false")),
            ("string", [b"\xff", b""], typed("DT_STRING", "string_val", r'"\377"', '""')),
            ("float16", [1.5], typed("DT_HALF", "half_val", 15872)),
            ("bfloat16", [1.5], typed("DT_BFLOAT16", "half_val", 16320)),
            (
                "complex64",
                [1 + 2j],
                "dtype: DT_COMPLEX64 tensor_shape {dim {size: 1}} scomplex_val: 1 scomplex_val: 2",
            ),
        )
    ),
    Case(
        "a version",
        "Predict",
        f"{model(name='adder', more=VERSION_1)} {inputs(x=ONE)}",
        outputs={"y": [11.0]},
    ),
    Case(
        "the newest version",
        "Predict",
        f"{model(name='adder')} {inputs(x=ONE)}",
        outputs={"y": [21.0]},
    ),
    Case(
        "a label",
        "Predict",
        f"""{model(name="adder", more='version_label: "stable"')} {inputs(x=ONE)}""",
        outputs={"y": [11.0]},
    ),
]

PREDICT_ERRORS = [
    Case("empty request", "Predict", "", "INVALID_ARGUMENT", "Missing ModelSpec"),
    Case(
        "no name",
        "Predict",
        "model_spec {}",
        "INVALID_ARGUMENT",
        "ModelSpec has no name specified.",
    ),
    Case(
        "unknown model",
        "Predict",
        model(name="nothing"),
        "NOT_FOUND",
        "Servable not found for request: Latest(nothing)",
    ),
    Case(
        "unknown version",
        "Predict",
        model(more=VERSION_7),
        "NOT_FOUND",
        "Servable not found for request: Specific(everything, 7)",
    ),
    Case(
        "unknown label",
        "Predict",
        model(more='version_label: "none"'),
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: none",
    ),
    refused(
        "unknown signature",
        "FAILED_PRECONDITION",
        'Serving signature key "none" not found.',
        "none",
        a=A,
    ),
    refused("no input", "INVALID_ARGUMENT", "Missing but required: {a}"),
    refused("too many inputs", "INVALID_ARGUMENT", "Sent extra: {b}", a=A, b=A),
    refused("another input", "INVALID_ARGUMENT", "Signature input alias: a", b=A),
    refused(
        "unknown output",
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: z",
        "",
        'output_filter: "z"',
        a=A,
    ),
    refused(
        "an output twice",
        "INVALID_ARGUMENT",
        "duplicate output tensor alias",
        "",
        'output_filter: "y" output_filter: "y"',
        a=A,
    ),
    refused(
        "another dtype",
        "INVALID_ARGUMENT",
        "to be float but double is provided",
        "echo_float32",
        x=typed("DT_DOUBLE", "double_val", 1),
    ),
    refused("no dtype", "INVALID_ARGUMENT", "tensor parsing error", "echo_float32", x=""),
    refused(
        "negative dimension",
        "INVALID_ARGUMENT",
        "tensor parsing error",
        "echo_float32",
        x=floats([1], -1),
    ),
    refused(
        "content of another size",
        "INVALID_ARGUMENT",
        "tensor parsing error",
        "echo_float32",
        x='dtype: DT_FLOAT tensor_shape {dim {size: 2}} tensor_content: "1234"',
    ),
    refused(
        "the graph refuses the shape",
        "INVALID_ARGUMENT",
        "Matrix size-incompatible",
        a=floats([1, 2], 1, 2),
    ),
    refused("an assertion fails", "INVALID_ARGUMENT", "negative value", "picky", x=floats([-1])),
]

EXAMPLE = 'examples {features {feature {key: "x" value {float_list {value: 1 value: 2.5}}}}}'
INPUT = f"input {{example_list {{{EXAMPLE}}}}}"
WITH_CONTEXT = (
    'input {example_list_with_context {context {features {feature {key: "shift" '
    f"value {{float_list {{value: 10}}}}}}}}}} {EXAMPLE}}}}}"
)
REGRESSED = "regressions {value: 3.5}"


def spec(signature: str, name: str = "everything") -> str:
    return f'model_spec {{name: "{name}" version {{value: 1}} signature_name: "{signature}"}}'


def task(signature: str, method: str, name: str = "everything") -> str:
    return f'tasks {{{model(signature, name)} method_name: "{method}"}}'


CLASSIFIED = (
    'classifications {classes {label: "left" score: 1} classes {label: "right" score: 2.5}}'
)

EXAMPLES = [
    Case(
        "classify",
        "Classify",
        f"{model('classify')} {INPUT}",
        answer=f"{spec('classify')} result {{{CLASSIFIED}}}",
    ),
    Case(
        "regress",
        "Regress",
        f"{model('regress')} {INPUT}",
        answer=f"{spec('regress')} result {{{REGRESSED}}}",
    ),
    Case(
        "context",
        "Regress",
        f"{model('regress')} {WITH_CONTEXT}",
        answer=f"{spec('regress')} result {{regressions {{value: 23.5}}}}",
    ),
    Case("classify nothing", "Classify", model("classify"), "INVALID_ARGUMENT", "Input is empty."),
    Case(
        "regress nothing",
        "Regress",
        f"{model('regress')} input {{example_list {{}}}}",
        "INVALID_ARGUMENT",
        "Input is empty.",
    ),
    Case(
        "unknown signature",
        "Classify",
        f"{model('none')} {INPUT}",
        "INVALID_ARGUMENT",
        "No signature was found with the name: none",
    ),
    Case(
        "wrong alias",
        "Regress",
        f"{model('wrong_alias')} {INPUT}",
        "FAILED_PRECONDITION",
        "No regression inputs found in SignatureDef",
    ),
    Case(
        "several signatures",
        "MultiInference",
        f"{task('regress', REGRESS, 'heads')} {task('classify', CLASSIFY, 'heads')} {INPUT}",
        answer=f"results {{{spec('regress', 'heads')} regression_result {{{REGRESSED}}}}} "
        f"results {{{spec('classify', 'heads')} classification_result {{classifications "
        "{classes {score: 1} classes {score: 2.5}}}}",
    ),
    Case(
        "signatures with inputs of their own",
        "MultiInference",
        f"{task('classify', CLASSIFY)} {task('regress', REGRESS)} {INPUT}",
        "INVALID_ARGUMENT",
        "Input tensor must be the same",
    ),
    Case(
        "one of several signatures",
        "MultiInference",
        f"{task('regress', REGRESS)} {INPUT}",
        answer=f"results {{{spec('regress')} regression_result {{{REGRESSED}}}}}",
    ),
    Case(
        "a signature twice",
        "MultiInference",
        f"{task('regress', REGRESS)} {task('regress', REGRESS)} {INPUT}",
        "INVALID_ARGUMENT",
        "Duplicate evaluation of signature: regress",
    ),
    Case(
        "another method",
        "MultiInference",
        f"{task('regress', 'tensorflow/serving/predict')} {INPUT}",
        "UNIMPLEMENTED",
        "Unsupported signature method_name",
    ),
    Case(
        "two models",
        "MultiInference",
        f"{task('regress', REGRESS)} {task('regress', REGRESS, 'adder')} {INPUT}",
        "INVALID_ARGUMENT",
        "same model name",
    ),
]

_AVAILABLE = "state: AVAILABLE status {}"

INFORMATION = [
    Case(
        "metadata without a model", "GetModelMetadata", "", "INVALID_ARGUMENT", "Missing ModelSpec"
    ),
    Case(
        "metadata without a field",
        "GetModelMetadata",
        model(),
        "INVALID_ARGUMENT",
        "must specify at least one metadata_field",
    ),
    Case(
        "metadata of another kind",
        "GetModelMetadata",
        f'{model()} metadata_field: "size"',
        "INVALID_ARGUMENT",
        "Metadata field size is not supported",
    ),
    Case(
        "metadata of an unknown model",
        "GetModelMetadata",
        f"""{model(name="nothing")} metadata_field: "signature_def" """,
        "NOT_FOUND",
        "Servable not found for request: Latest(nothing)",
    ),
    Case(
        "status",
        "GetModelStatus",
        'model_spec {name: "adder"}',
        answer=f"model_version_status {{version: 2 {_AVAILABLE}}} "
        f"model_version_status {{version: 1 {_AVAILABLE}}}",
    ),
    Case(
        "status of a version",
        "GetModelStatus",
        f'model_spec {{name: "adder" {VERSION_1}}}',
        answer=f"model_version_status {{version: 1 {_AVAILABLE}}}",
    ),
    Case(
        "status of a label is that of all",
        "GetModelStatus",
        'model_spec {name: "everything" version_label: "none"}',
        answer=f"model_version_status {{version: 1 {_AVAILABLE}}}",
    ),
    Case("status without a model", "GetModelStatus", "", "INVALID_ARGUMENT", "Missing ModelSpec"),
    Case(
        "status of an unknown model",
        "GetModelStatus",
        'model_spec {name: "nothing"}',
        "NOT_FOUND",
        "Could not find any versions of model nothing",
    ),
    Case(
        "status of an unknown version",
        "GetModelStatus",
        f'model_spec {{name: "adder" {VERSION_7}}}',
        "NOT_FOUND",
        "Could not find version 7 of model adder",
    ),
    Case(
        "reload nothing",
        "HandleReloadConfigRequest",
        "",
        "INVALID_ARGUMENT",
        "Only ModelConfigList is currently supported",
    ),
    Case(
        "reload a model twice",
        "HandleReloadConfigRequest",
        'config {model_config_list {config {name: "adder" base_path: "/a" '
        'model_platform: "tensorflow"} config {name: "adder" base_path: "/a" '
        'model_platform: "tensorflow"}}}',
        "INVALID_ARGUMENT",
    ),
    Case(
        "reload a relative path",
        "HandleReloadConfigRequest",
        'config {model_config_list {config {name: "adder" base_path: "a" '
        'model_platform: "tensorflow"}}}',
        "INVALID_ARGUMENT",
    ),
    Case(
        "reload another platform",
        "HandleReloadConfigRequest",
        'config {model_config_list {config {name: "adder" base_path: "/a" '
        'model_platform: "cobol"}}}',
        "INVALID_ARGUMENT",
    ),
]

CASES = [*PREDICT, *PREDICT_ERRORS, *EXAMPLES, *INFORMATION]
