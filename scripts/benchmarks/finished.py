"""What a benchmark has computed already, for a run that was stopped."""

import json
from pathlib import Path
from typing import Any


class Finished:
    """Values by key in a file, computed with the same settings."""

    def __init__(self, path: Path, settings: dict[str, Any]):
        self.path = path
        stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        settings = json.loads(json.dumps(settings))
        self.content = stored if stored.get("settings") == settings else {"settings": settings, "values": {}}

    def get(self, key: str, compute, *args):
        """The value of a key, computed and kept if it is not there. Prints it."""
        values = self.content["values"]
        if key not in values:
            values[key] = compute(*args)
            save(self.path, self.content)
        print(f"{key}: {values[key]}", flush=True)
        return values[key]


def save(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
