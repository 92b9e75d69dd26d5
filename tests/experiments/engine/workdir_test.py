"""What of a run's config may differ when it goes on."""

import pytest

from experiments.engine import workdir

THEIRS = {
    "seed": 0,
    "train_examples": 96,
    "schedule": {"name": "constant", "peak": 1e-3},
    "run": {"log_every": 1},
    "model": {"width": 7},
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"run": {"log_every": 9}}, []),
        ({"train_examples": 97}, []),
        ({"train_examples": 97, "schedule": {"name": "step_decay"}}, []),
        ({"train_examples": 95}, ["train_examples is 96 there and 95 here"]),
        (
            {"schedule": {"name": "constant", "peak": 2.0}},
            ["schedule.peak is 0.001 there and 2.0 here"],
        ),
        (
            {"train_examples": 97, "seed": 1, "model": {"width": 8}},
            [
                "model.width is 7 there and 8 here",
                "seed is 0 there and 1 here",
            ],
        ),
        (
            {"train_examples": "more"},
            ["train_examples is 96 there and 'more' here"],
        ),
    ],
)
def test_a_run_may_become_longer_and_its_schedule_another_then(
    changes, expected
):
  mine = {**THEIRS, **changes}
  assert list(workdir.differences(THEIRS, mine)) == expected


def test_what_a_damaged_config_lacks_makes_no_run_longer():
  assert not workdir.is_longer({}, THEIRS)
  assert not workdir.is_longer({"train_examples": None}, THEIRS)
  assert workdir.is_longer({"train_examples": 1}, THEIRS)
