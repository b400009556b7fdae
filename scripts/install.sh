#!/bin/sh
# Install into a virtual environment with uv, or with pip where there is no uv: install.sh ENV REQUIREMENT...
# A `--group NAME` of pyproject.toml may stand among the requirements.
set -eu
env=$1
shift
if command -v uv >/dev/null 2>&1; then
    exec uv pip install --quiet --python "$env/bin/python" "$@"
fi
case " $* " in
    *" --group "*) "$env/bin/python" -m pip install --quiet --upgrade 'pip>=25.1' ;;
esac
exec "$env/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
