#!/bin/sh
# Before benchmarks/gpu.sh, on a connected machine: wheels for python 3.12 of what a machine with torch, transformers and
# scikit-learn may lack, in the folder .whl (git does not see it), at most 50 MiB.
cd "$(dirname "$0")/.." || exit 1
mkdir -p .whl && rm -f .whl/*.whl
platforms=$(for tag in 2_34 2_31 2_28 2_27 2_24 2_17; do printf -- '--platform manylinux_%s_x86_64 ' $tag; done)
for name in diffusers librosa soxr soundfile cffi pycparser audioread decorator pooch platformdirs lazy-loader joblib \
    threadpoolctl msgpack msgspec einops einx frozendict torch-einops-utils vector-quantize-pytorch jaxtyping wadler-lindig \
    lightning lightning-utilities torchmetrics pytorch-lightning pydantic pydantic-core annotated-types typing-inspection \
    importlib-metadata zipp rich markdown-it-py mdurl pygments jinja2 markupsafe pillow pyyaml tensorboard absl-py markdown \
    werkzeug grpcio protobuf beartype pytest pytest-timeout pytest-xdist execnet iniconfig pluggy filelock \
    loguru requests urllib3 certifi charset-normalizer jsonargparse lazy-importer; do
    pinned=$(grep -i "^$name==" constraints.txt | head -1 | cut -d';' -f1)
    # shellcheck disable=SC2086
    ${PYTHON:-python3} -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        $platforms --platform manylinux2014_x86_64 --platform manylinux1_x86_64 -d .whl "${pinned:-$name}" ||
        echo "no wheel of ${pinned:-$name}"
done
size=$(du -sm .whl | cut -f1)
echo "$(ls .whl | wc -l) wheels, $size MiB"
[ "$size" -le 50 ] || { echo "more than 50 MiB; leave something out"; exit 1; }
