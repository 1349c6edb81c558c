"""The operators are torch's as soon as both packages are imported, in any order; and torch's import stays what it is."""

import subprocess
import sys

import pytest

KNOWN = "import torch; torch._C._jit_get_schemas_for_operator('fastlstm::layer')[0]\n"

# torch in these is a small module of its own: what is watched is the import, and the real one takes seconds.
STAND_IN = """
import sys, tempfile, pathlib, types
folder = pathlib.Path(tempfile.mkdtemp())
sys.path.insert(0, str(folder))
registered = []
import fastlstm.torch_hook as hook
hook._register = lambda: registered.append('torch' in sys.modules)
"""
WRITE = "(folder / 'torch.py').write_text({!r})\n"


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "script",
    [
        "import fastlstm, torch\n",
        "import torch, fastlstm\n",
        "import fastlstm; from torch import nn\n",
        "import fastlstm, importlib, importlib.util; importlib.util.find_spec('torch'); importlib.import_module('torch')\n",
    ],
)
def test_whatever_is_imported_first(script: str) -> None:
    assert run(script + KNOWN) == ""


@pytest.mark.parametrize(
    ("module", "script"),
    [
        ("", "import torch; assert registered == [True], registered"),
        ("import fastlstm.torch_hook as hook; hook.watch()", "import torch; assert registered, registered"),
        (
            "raise KeyError",
            "try: import torch\nexcept KeyError: pass\nassert not registered and 'torch' not in sys.modules\n"
            "(folder / 'torch.py').write_text('whole = True')\nimport importlib; importlib.invalidate_caches()\n"
            "import torch; assert registered == [True]",
        ),
        (
            "",
            "import importlib.util, pickle, inspect\nspec = importlib.util.find_spec('torch')\n"
            "assert type(spec.loader).__name__ == 'SourceFileLoader' and spec.loader.get_source('torch') == ''\n"
            "pickle.loads(pickle.dumps(spec)); assert not registered\nimport torch; assert registered == [True]",
        ),
        ("", "import torch, importlib; importlib.reload(torch); assert registered"),
        (
            "import time; time.sleep(0.2)",
            "import threading\ndef work():\n    import torch\n    assert registered\n    done.append(1)\ndone = []\n"
            "threads = [threading.Thread(target=work) for _ in range(4)]\n"
            "[t.start() for t in threads]; [t.join() for t in threads]; assert len(done) == 4 and registered == [True]",
        ),
    ],
    ids=["import", "from inside", "fails first", "find_spec", "reload", "threads"],
)
def test_the_import_itself(module: str, script: str) -> None:
    run("import sys\n" + STAND_IN + WRITE.format(module) + script)


def test_without_torch() -> None:
    assert "torch" not in run("import fastlstm, sys; print([m for m in sys.modules if m.split('.')[0] == 'torch'])")
