#!/usr/bin/env bash
# Builds a wheel of mmcv 2.2 with its compiled operators against the torch that is installed.
#
#   bash docs/build_mmcv.sh [FOLDER]      the wheel is left in FOLDER, ./wheels by default
#
# Takes a C++ compiler, and for CUDA operators the CUDA toolkit of torch's version (nvcc); set
# FORCE_CUDA=1 to build those where no GPU is visible, TORCH_CUDA_ARCH_LIST to choose GPUs,
# MAX_JOBS to choose how many files are compiled at a time, PYTHON for another interpreter.
set -euo pipefail

version=2.2.0
python=${PYTHON:-python}
"$python" -c 'import torch; print("building against torch", torch.__version__)'
mkdir -p "${1:-wheels}"
wheels=$(cd "${1:-wheels}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# mmcv's setup.py imports pkg_resources, which newer setuptools have not: the build gets older
# tools of its own, and the environment keeps the ones it has.
"$python" -m pip install --quiet --target "$work/tools" "setuptools<81" wheel ninja packaging
export PYTHONPATH="$work/tools${PYTHONPATH:+:$PYTHONPATH}"
export PATH="$work/tools/bin:$PATH"

# Build isolation would compile against another torch.
"$python" -m pip download --quiet --no-deps --no-binary mmcv --no-build-isolation \
    --dest "$work" "mmcv==$version"
tar -xzf "$work/mmcv-$version.tar.gz" -C "$work"
cd "$work/mmcv-$version"

# As shipped it asks for C++17, which torch >= 2.14 refuses. Without a standard of its own,
# torch's BuildExtension adds the one that this torch needs.
sed -i.shipped -e "s/\['-std=c++17'\]/[]/" setup.py
if grep -q "= \['-std=c++17'\]" setup.py; then
    echo "mmcv's setup.py is not the one that this recipe knows" >&2
    exit 1
fi

MMCV_WITH_OPS=1 "$python" -m pip wheel --verbose --no-cache-dir --no-deps --no-build-isolation \
    --wheel-dir "$wheels" .
if [[ $("$python" -m zipfile -l "$wheels/mmcv-$version"-*.whl) != *mmcv/_ext.* ]]; then
    echo "the wheel holds no operators" >&2
    exit 1
fi
echo "now: pip install --find-links $wheels 'bev-forecast[mmcv]', where mmcv-lite is not installed"
