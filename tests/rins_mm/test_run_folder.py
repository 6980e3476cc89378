"""A run writes into its own folder."""

from dataclasses import replace

import pytest

from data_pipelines.errors import UserError
from rins_mm.recipes import load_config
from rins_mm.run_folder import refuse_existing_run, resume_run


@pytest.mark.parametrize("name", ["metrics.jsonl", "environment.json", "tokenizer", "checkpoints"])
def test_nothing_is_written_through_links_that_lie_in_the_folder(name, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "outside")
    config = replace(load_config("emoji"), run_dir=str(tmp_path / "run"))
    with pytest.raises(UserError, match=f"{name} is a link"):
        refuse_existing_run(config)
    with pytest.raises(UserError, match=f"{name} is a link"):
        resume_run(config, {})


def test_the_folder_itself_may_lie_elsewhere(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    config = replace(load_config("emoji"), run_dir=str(tmp_path / "run"))
    refuse_existing_run(config)
    assert resume_run(config, {}) is None
