"""What a run logs reaches the trackers that `report_to` names, on this machine alone."""

import sqlite3

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from .accident import compare

FLAGS = ["--dataset", "BasicMotions", "--attention", "bn", "--num_train_epochs", "2", "--seeds", "0"]
FLAGS += ["--hidden_size", "16", "--intermediate_size", "16", "--num_hidden_layers", "1", "--disable_tqdm", "true"]
FLAGS += ["--efficiency_tokens", "100"]


def test_each_run_is_logged_under_its_name_and_outlives_the_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    # As a flag `report_to` takes one name alone.
    trackers = tmp_path / "trackers.yaml"
    trackers.write_text("report_to: [tensorboard, trackio]\nproject: motions\n")
    compare([str(trackers), *FLAGS, "--output_dir", str(tmp_path / "out")])

    logs = tmp_path / "out" / "logs"
    assert sorted(path.name for path in logs.iterdir()) == ["bn-0", "softmax-0"]
    events = EventAccumulator(str(logs / "bn-0")).Reload()
    assert [event.step for event in events.Scalars("eval/loss")] == [2, 4]
    assert len(events.Scalars("train/loss")) == 2

    (database,) = (tmp_path / "trackio").glob("motions*.db")
    with sqlite3.connect(database) as connection:
        names = {name for (name,) in connection.execute("select distinct run_name from metrics")}
    assert names == {"BasicMotions-softmax-0", "BasicMotions-bn-0"}
