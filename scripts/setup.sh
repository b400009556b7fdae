#!/bin/sh
# Make a virtual environment, build the extension into it and install the package: setup.sh ENV [EXTRA...]
# Every tool that is missing is named, with the line that installs it, before anything else runs.
set -eu
env=$1
shift

missing=
need() { # tool, line that installs it
    missing="$missing
  $1: $2"
}

python=
for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
    if command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        python=$candidate
        break
    fi
done

if command -v apt-get >/dev/null 2>&1; then install="sudo apt-get install -y"
elif command -v dnf >/dev/null 2>&1; then install="sudo dnf install -y"
elif command -v pacman >/dev/null 2>&1; then install="sudo pacman -S --needed"
elif command -v brew >/dev/null 2>&1; then install="brew install"
else install="install"
fi

[ -n "$python" ] || need "Python 3.10 or newer" "$install python3"
if [ -n "$python" ] && ! command -v uv >/dev/null 2>&1 && ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    need "Python's venv module" "$install python3-venv"
fi
command -v cc >/dev/null 2>&1 || need "a C compiler" "$install gcc"
# A toolchain of rustup may be installed and only its folder missing from PATH.
if ! command -v cargo >/dev/null 2>&1 && [ -x "${HOME:-}/.cargo/bin/cargo" ]; then
    PATH="$HOME/.cargo/bin:$PATH"
    export PATH
fi
if command -v cargo >/dev/null 2>&1; then
    minor=$(cargo --version | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p')
    [ "${minor:-0}" -ge 89 ] || need "Rust 1.89 or newer (found $(cargo --version))" "rustup update stable"
else
    need "a Rust toolchain" "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
fi
if [ -n "$missing" ]; then
    echo "Needed and not found on this machine:$missing" >&2
    exit 1
fi

if [ ! -x "$env/bin/python" ]; then
    echo "Creating $env"
    # As pip does: the first start is as quick as the others, also where Python may write no bytecode.
    export UV_COMPILE_BYTECODE=1
    if command -v uv >/dev/null 2>&1; then uv venv --quiet --python "$python" "$env"
    else "$python" -m venv "$env"
    fi
fi

here=$(dirname "$0")
sh "$here/install.sh" "$env" 'maturin>=1.9,<2'
extras=$(IFS=,; echo "$*")
echo "Building the extension (the first time about three minutes on two cores)"
VIRTUAL_ENV=$(cd "$env" && pwd)
export VIRTUAL_ENV
log=$env/build.log
installer=
if command -v uv >/dev/null 2>&1; then installer=--uv; fi
if ! "$env/bin/maturin" develop --release --locked --quiet $installer ${extras:+--extras "$extras"} >"$log" 2>&1; then
    cat "$log" >&2
    echo "The build failed; its output is above and in $log" >&2
    exit 1
fi
"$env/bin/python" -m compileall -q "$here/../python"
