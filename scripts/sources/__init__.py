"""Where this repository's own tables get their data: wheels and a Debian package, which users of it do not need."""

from .fashion_mnist import fashion_mnist_source
from .newsgroups import newsgroups_source

TEXT_SOURCES = {"newsgroups": newsgroups_source}
"""By the name of a `--task`; see `hf_primaldual.training.text_sources`."""

IMAGE_SOURCES = {"fashion-mnist": fashion_mnist_source}
"""By the name of a `--dataset`; see `hf_primaldual.training.images`."""
