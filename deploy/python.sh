# Sourced by the scripts beside it: finds a Python that will do, and brings .venv up to date with it.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

find_python() {
    local candidate
    for candidate in "$root/.venv/bin/python" python3.11 python3.12 python3.13 python3 python; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Thumbwheel needs Python 3.11, 3.12 or 3.13 on the PATH." >&2
    return 1
}

export HF_HUB_DISABLE_TELEMETRY=1
python=$(find_python)
"$python" "$root/deploy/install.py" ${extras[@]+"${extras[@]}"}
