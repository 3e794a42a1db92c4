import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from memae_tf import console

COMMANDS = ["train", "evaluate", "benchmark", "score"]


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command):
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['{command}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('memae_tf.{command}', run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0\n"
        "heavy = {'tensorflow', 'keras', 'pandas', 'sklearn', 'matplotlib', 'numpy', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    result = run(code)
    assert result.returncode == 0, result.stderr
    assert "usage: python -m memae_tf." in result.stdout


def test_import_imports_nothing_heavy():
    result = run(
        "import sys, memae_tf\n"
        "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)\n"
        "assert 'MemoryUnit' in dir(memae_tf)\n"
        "assert memae_tf.MemoryUnit.__name__ == 'MemoryUnit'\n"
        "try:\n"
        "    memae_tf.nothing\n"
        "except AttributeError as error:\n"
        "    assert 'nothing' in str(error)\n"
        "else:\n"
        "    raise SystemExit(1)\n"
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("raised", "status", "stderr"),
    [
        ("UserError('two\\nlines')", 2, "two lines\n"),
        ("RequestError('NOT_FOUND', 'no such model')", 2, "no such model\n"),
        ("ServerError('INTERNAL', 'theirs')", 1, "theirs\n"),
        ("KeyboardInterrupt()", 130, "interrupted\n"),
        (
            "MemoryError('8 TB')",
            2,
            "out of memory (8 TB); use smaller batches, or a smaller model\n",
        ),
        (
            "MemoryError()",
            2,
            "out of memory; use smaller batches, or a smaller model\n",
        ),
        ("RuntimeError('ours')", 1, None),
    ],
)
def test_exit_statuses(raised, status, stderr):
    result = run(
        "from memae_tf import console\n"
        "from memae_tf.errors import RequestError, ServerError, UserError\n"
        f"def main(argv): raise {raised}\n"
        "console.run(main)\n"
    )
    assert result.returncode == status
    if stderr is None:
        assert "Traceback" in result.stderr
        assert "RuntimeError: ours" in result.stderr
    else:
        assert result.stderr == stderr


def test_too_little_memory_for_a_tensor_is_one_line():
    result = run(
        "from memae_tf import console\n"
        "def main(argv):\n"
        "    console.import_tensorflow()\n"
        "    import tensorflow as tf\n"
        "    tf.ones([2**20, 2**22])\n"
        "console.run(main)\n"
    )
    assert result.returncode == 2
    assert result.stderr.startswith("out of memory (OOM when allocating tensor with")
    assert "[1048576,4194304]" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_arguments_are_one_line(command):
    result = subprocess.run(
        [sys.executable, "-m", f"memae_tf.{command}", "--nonsense"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(("raised", "shown"), [("KeyboardInterrupt", False), ("ImportError", True)])
def test_what_is_held_back_is_shown_after_a_fault_alone(raised, shown):
    result = run(
        "import os\n"
        "from memae_tf import console\n"
        "with console._stderr_unless_fault():\n"
        "    os.write(2, b'of a library')\n"
        f"    raise {raised}\n"
    )
    assert ("of a library" in result.stderr) == shown
    assert raised in result.stderr


def test_home_folders_in_arguments(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    parser = console.Parser()
    parser.add_argument("--workdir", type=console.path)
    # No shell expands this one.
    assert parser.parse_args(["--workdir=~/runs"]).workdir == Path("/home/somebody/runs")
    with pytest.raises(SystemExit):
        parser.parse_args(["--workdir=~nobody-like-this/runs"])


@pytest.mark.parametrize(
    ("words", "end"),
    [
        (["--treshold", "3"], "--treshold 3; did you mean --threshold?"),
        (["--treshold=3", "--no"], "--treshold=3 --no; did you mean --threshold?"),
        (["--nonsense"], "--nonsense"),
        (["-x"], "-x"),
    ],
)
def test_a_mistyped_option_names_the_nearest(words, end, capsys):
    parser = console.Parser(prog="score")
    parser.add_argument("--threshold")
    with pytest.raises(SystemExit):
        parser.parse_args(words)
    said = f"score: error: unrecognized arguments: {end} (see --help)\n"
    assert capsys.readouterr().err == said


def test_closed_standard_streams_are_no_files(tmp_path):
    """What is printed vanishes, and does not land in a file that is opened in their place."""
    code = (
        "import sys; from memae_tf import console\n"
        "def main(_):\n"
        "    with open('a.txt', 'w') as file:\n"
        "        print('out'); print('err', file=sys.stderr)\n"
        "        with console.ProgressDisplay() as display: display.update(1, 1, 'done')\n"
        "        file.write('whole')\n"
        "console.run(main)\n"
    )
    command = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False).returncode == 0
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_a_name_that_is_too_long_is_one_line():
    done = run("from memae_tf import console; console.run(lambda _: open('x' * 300))")
    assert done.returncode == console.USER_ERROR
    assert done.stderr == f"{'x' * 300}: File name too long\n"
