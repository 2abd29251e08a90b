"""What comes back from another device than the CPU."""

import subprocess
import sys
from pathlib import Path


def test_on_a_second_device() -> None:
    """In a process of its own: a device that PyTorch was given once stays, and other tests would see it."""
    checks = Path(__file__).with_name("on_a_second_device.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(checks)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
