"""A short run of `checkpoints.py`, in a process of its own: it limits memory, and may crash."""

import random
import subprocess
import sys
from pathlib import Path

import checkpoints

import fastlstm


def test_every_change_changes_every_kind_of_file(tmp_path):
    pick = random.Random(0)
    for layer in checkpoints.layers():
        fastlstm.save(layer, tmp_path / "layer.safetensors")
        file = (tmp_path / "layer.safetensors").read_bytes()
        for change in checkpoints.BYTE_CHANGES:
            assert any(change(pick, file) != file for _ in range(5)), change.__name__
        for change in checkpoints.HEADER_CHANGES:
            header, data = checkpoints.taken_apart(file)
            change(pick, header)
            assert isinstance(checkpoints.put_together(checkpoints.json.dumps(header), data), bytes)


def test_changed_checkpoints_and_killed_saves():
    script = Path(checkpoints.__file__)
    done = subprocess.run(
        [sys.executable, script, "300", "1"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.startswith("300 changed checkpoints")
    assert "30 kills" in done.stdout
