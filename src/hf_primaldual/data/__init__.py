from .uea import UEA_TASKS, TsFile, UeaTask, describe_source, load_uea, read_ts

__all__ = ["UEA_TASKS", "TsFile", "UeaTask", "describe_source", "load_uea", "read_ts"]
