from .images import decode_image, load_images
from .listops import LISTOPS, LISTOPS_LITE, LISTOPS_VOCABULARY, ListOpsSpec, load_listops, load_listops_files
from .long_range_arena import load_cifar10, load_imdb, load_pathfinder_images, load_retrieval
from .pathfinder import PATHFINDER, PATHFINDER_LITE, PathfinderSpec, load_pathfinder
from .series import class_weights, read_series, series_arrays, series_dataset
from .tables import SeriesLayout
from .uea import describe_source, load_uea, read_ts
from .windows import cut_series, cut_texts, vote

__all__ = [
    "LISTOPS",
    "LISTOPS_LITE",
    "LISTOPS_VOCABULARY",
    "PATHFINDER",
    "PATHFINDER_LITE",
    "ListOpsSpec",
    "PathfinderSpec",
    "SeriesLayout",
    "class_weights",
    "cut_series",
    "cut_texts",
    "decode_image",
    "describe_source",
    "load_cifar10",
    "load_images",
    "load_imdb",
    "load_listops",
    "load_listops_files",
    "load_pathfinder",
    "load_pathfinder_images",
    "load_retrieval",
    "load_uea",
    "read_series",
    "read_ts",
    "series_arrays",
    "series_dataset",
    "vote",
]
