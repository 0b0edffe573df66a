from .minilm import minilm_folder
from .newsgroups import describe_newsgroups, load_newsgroups, read_newsgroups
from .uea import UEA_TASKS, TsFile, UeaTask, describe_source, load_uea, read_ts

__all__ = [
    "UEA_TASKS",
    "TsFile",
    "UeaTask",
    "describe_newsgroups",
    "describe_source",
    "load_newsgroups",
    "load_uea",
    "minilm_folder",
    "read_newsgroups",
    "read_ts",
]
