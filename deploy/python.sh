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

# In the background, since bash passes no signal on to what it runs in front, and waits for its end instead.
install() {
    local installer="" stop_asked="" status
    trap 'stop_asked=1; [ -z "$installer" ] || kill -TERM "$installer" 2>/dev/null || true' INT TERM HUP
    "$python" "$root/deploy/install.py" "$@" &
    installer=$!
    # The signal may have come before the id was known.
    [ -z "$stop_asked" ] || kill -TERM "$installer" 2>/dev/null || true
    # A signal ends `wait`, but not what it waits for.
    while true; do
        status=0
        wait "$installer" || status=$?
        kill -0 "$installer" 2>/dev/null || break
    done
    trap - INT TERM HUP
    [ -z "$stop_asked" ] || exit 130
    return "$status"
}

export HF_HUB_DISABLE_TELEMETRY=1
python=$(find_python)
install ${extras[@]+"${extras[@]}"}
