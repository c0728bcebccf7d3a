# hbo for one NVIDIA GPU or several.
#
#   docker build -t hbo .
#   docker run --rm --gpus all --ipc=host -v "$PWD:/home/hbo/work" hbo train run.yaml
#
# PyTorch's own image brings torch and CUDA; constraints.txt holds the rest to the releases that hbo is tested with.
FROM pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime

# Pinned to the image's torch, so that no step can replace it by another build.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_BREAK_SYSTEM_PACKAGES=1

RUN useradd --create-home --uid 10001 hbo
WORKDIR /opt/hbo

# The dependencies come in a layer of their own, which changes with pyproject.toml and constraints.txt only: an empty
# package of the same name asks for them.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir -p src/hbo recipes && printf '__version__ = "0"\n' > src/hbo/__init__.py \
    && pip install -c constraints.txt '.[train]' \
    && pip uninstall --yes hbo && rm -r src

COPY src src
COPY recipes recipes
RUN pip install --no-deps . && hbo --version

USER 10001
ENV HBO_CACHE=/home/hbo/.cache/hbo HF_HOME=/home/hbo/.cache/huggingface
WORKDIR /home/hbo/work
ENTRYPOINT ["hbo"]
CMD ["--help"]
