"""Packaging. Settings of tools are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "memae_tf/__init__.py").read_text())[1]
REQUIREMENTS = [
    line
    for line in (ROOT / "requirements.txt").read_text().splitlines()
    if line and not line.startswith("#")
]

# TensorFlow Serving's protocol, in which warm-up requests are written and servers are asked; each
# release needs the TensorFlow of its number, so it is no requirement of those who only train. The
# others are the embedded server's: gRPC health and reflection, HTTP.
SERVING = [
    "tensorflow-serving-api>=2.18",
    "grpcio-health-checking",
    "grpcio-reflection",
    "aiohttp>=3.9",
]

# TensorFlow Datasets does not declare importlib_resources.
IMAGES = ["tensorflow-datasets>=4.9", "importlib_resources"]

# PyAV, FFmpeg for Python, decodes video files; its wheels bring FFmpeg along. Before 15 it knows no
# rotation of phones, and stops at the seams of files that were cut without encoding them anew.
VIDEO = ["av>=15"]

setup(
    name="memae_tf",
    version=VERSION,
    description="Memory-augmented autoencoders (MemAE) for anomaly detection, in Keras 3",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["memae_tf", "memae_tf.*"]),
    package_data={
        "memae_tf.data": ["simulated_traffic.json"],
        "memae_tf.pretrained": ["*/*"],
    },
    python_requires=">=3.10",
    install_requires=REQUIREMENTS,
    extras_require={
        # Parquet files as tabular data.
        "parquet": ["pyarrow>=15"],
        # The image sets of TensorFlow Datasets.
        "images": IMAGES,
        # Video files.
        "video": VIDEO,
        # Exports for TensorFlow Serving: its protocol, in which warm-up requests are written and
        # servers are asked. A release needs the TensorFlow of its number or later, so it is no
        # requirement of those who only train.
        "serving": SERVING,
        # ONNX files of exported models, and what checks them.
        "onnx": ["tf2onnx>=1.17", "onnxruntime>=1.18"],
        # The layers and models also run on Keras's other backends.
        "backends": ["jax", "torch"],
        "docs": ["mkdocs>=1.6", "mkdocstrings[python]>=0.26"],
        "test": [
            "pytest>=8",
            "pytest-cov>=6",
            # Most of a test's time is one process starting: cores help.
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "ruff>=0.9",
            # What the files in serving/ are checked with: the schema of compose.yaml, PromQL.
            "check-jsonschema>=0.31",
            "promql-parser>=0.5",
            # The other extras that tests go through.
            *IMAGES,
            *VIDEO,
            "pyarrow>=15",
            # Tables that are compressed with it.
            "zstandard",
            *SERVING,
            "tf2onnx>=1.17",
            "onnxruntime>=1.18",
        ],
    },
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
