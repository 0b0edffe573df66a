"""Published repositories in a collection of the Hub, each with what it reached."""

from collections.abc import Sequence

from huggingface_hub import Collection, HfApi

from .collect import collect
from .publish import patiently


def add_to_collection(
    title: str,
    repo_ids: Sequence[str],
    *,
    description: str | None = None,
    namespace: str | None = None,
    private: bool = False,
    token: str | None = None,
) -> Collection:
    """
    Puts repositories into the collection of that title, which is created if there is none, each with a note of its
    attention, data set and test accuracy. Those that are there already get the note of their present results.

    Args:
        title: Of the collection, at most 59 characters.
        repo_ids: `owner/name` of repositories that `publish` filled.
        description: Of a new collection, at most 150 characters.
        namespace: The user or organization that owns the collection; by default the owner of the first repository.
        private: Makes a new collection private.
        token: By default `HF_TOKEN`, or that of `hf auth login`.

    Returns:
        The collection as it is now; `url` is its address.

    Raises:
        ValueError: `repo_ids` is empty, a text is too long, or a repository's `results.json` is of another schema.
        huggingface_hub.errors.HfHubHTTPError: The Hub refused, or a repository is not there; what was in the
            collection stays.
    """
    if not repo_ids:
        raise ValueError("`repo_ids` is empty; name the repositories that go into the collection")
    for name, text, longest in (("title", title, 59), ("description", description or "", 150)):
        if len(text) > longest:
            raise ValueError(f"`{name}` may have {longest} characters, got {len(text)}: {text!r}")
    # Every repository is read before anything is written.
    notes = {row["repo_id"]: _note(row) for row in collect(repo_ids, token=token)}
    api = HfApi(token=token)
    owner = namespace or repo_ids[0].partition("/")[0]
    collection = patiently(
        lambda: api.create_collection(title, namespace=owner, description=description, private=private, exists_ok=True)
    )
    there = {item.item_id: item for item in collection.items if item.item_type == "model"}
    for repo_id, note in notes.items():
        _place(api, collection.slug, repo_id, note, there.get(repo_id))
    return patiently(lambda: api.get_collection(collection.slug))


def _place(api: HfApi, slug: str, repo_id: str, note: str, item) -> None:
    if item is None:
        patiently(lambda: api.add_collection_item(slug, repo_id, "model", note=note, exists_ok=True))
    elif item.note != note:
        patiently(lambda: api.update_collection_item(slug, item.item_object_id, note=note))


def _note(row: dict) -> str:
    return (
        f"{row['attention']} on {row['dataset']}: test accuracy {100 * row['test_accuracy']:.2f} %, "
        f"{100 * row['difference']:+.2f} points to {row['baseline']}, over {row['seeds']} seeds"
    )


__all__ = ["add_to_collection"]
