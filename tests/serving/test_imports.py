import subprocess
import sys

HEAVY = "torch transformers peft trl vllm datasets pyarrow scipy numpy matplotlib".split()


def test_the_gateway_loads_nothing_heavy():
    code = f"import sys, serving.app; print([name for name in {HEAVY} if name in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.strip() == "[]"
