"""A forked kernel has what jobs need loaded when it starts, and leaves nothing behind when it is killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aesthemo_studies.forked import FORKS

PROJECT = Path(__file__).resolve().parents[2]
JOB = """
from jupyter_client.manager import start_new_kernel
from aesthemo_studies.forked import forked_kernels

CELL = "import sys; loaded = 'torch' in sys.modules; from tqdm import tqdm; bar = tqdm(total=2); bar.update()"
if __name__ == "__main__":
    with forked_kernels():
        manager, client = start_new_kernel(kernel_name="python3", startup_timeout=300)
        reply = client.execute_interactive(CELL, user_expressions={"loaded": "loaded"}, timeout=300)
        print(reply["content"]["user_expressions"]["loaded"]["data"]["text/plain"])
        client.stop_channels()
        manager.shutdown_kernel(now=True)
"""


@pytest.mark.skipif(not FORKS, reason="kernels are forked on Linux only")
def test_a_forked_kernel_has_torch_loaded_and_leaves_no_semaphore(tmp_path):
    (tmp_path / "job.py").write_text(JOB, encoding="utf-8")
    path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, "job.py"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path},
                          capture_output=True, encoding="utf-8", timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True", "a fresh kernel has not imported torch"
    assert "leaked" not in done.stderr  # what Python says of a progress bar's lock whose kernel was killed
