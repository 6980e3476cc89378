from types import MappingProxyType

import pytest
from scene_groups import by_split

from data_pipelines.scenes.cut_outs import names, read_cut_outs, silhouettes
from data_pipelines.scenes.samples import SceneSource
from data_pipelines.scenes.world import World

NUM_SAMPLES = {"train": 1000, "val": 60, "test": 240, "combinations": 80, "concepts": 80}


@pytest.fixture(scope="session")
def cut_outs():
    """All of the emoji."""
    return read_cut_outs("emoji", 28)


@pytest.fixture(scope="session")
def source(cut_outs):
    """Training samples of all constructions; `replace` makes other ones of it."""
    world = World(kinds=names(cut_outs[:21]), silhouettes=silhouettes(cut_outs[:21]))
    return SceneSource(world=world, split="train", seed=0, num_siblings=4, constructions=())


@pytest.fixture(scope="session")
def samples(source):
    """The first samples of each split; their number is a multiple of four."""
    numbers = {split: range(number) for split, number in NUM_SAMPLES.items()}
    return MappingProxyType(by_split(source, numbers))
