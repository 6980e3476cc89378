"""What is held out is nowhere in training, and everywhere in its own split."""

import pytest

from data_pipelines.scenes.meaning import nouns, related_nouns
from data_pipelines.scenes.scene import FAMILIES, FAMILY_OF
from data_pipelines.scenes.stories import Story, heads_met
from data_pipelines.scenes.world import COLOURS


@pytest.fixture(scope="module")
def world(source):
    """What is held out."""
    return source.world


def test_each_kind_lacks_something_in_training_but_never_all(world):
    assert len(world.concepts) == 3
    for kind in world.kinds:
        colours = {colour for other, colour in world.new_colours if other == kind}
        families = {family for other, family in world.new_relations if other == kind}
        assert (kind in world.concepts, len(colours), len(families)) in {
            (True, 0, 0),
            (False, 2, 0),
            (False, 0, 1),
        }
    assert {colour for _, colour in world.new_colours} == set(COLOURS)
    assert {family for _, family in world.new_relations} == set(FAMILIES)


def said_and_shown(samples, world):
    """What occurs: concepts in relations, colours of kinds in words and pictures, families of kinds."""
    for sample in samples:
        meaning = sample.sibling.meaning
        related = set(related_nouns(meaning))
        said = {(noun.kind, noun.colour) for noun in nouns(meaning)}
        said |= {(s.noun.kind, s.said) for s in meaning if hasattr(s, "said")}
        said |= {head for s in meaning if isinstance(s, Story) for head in heads_met(s)}
        shown = {(thing.kind, thing.colour) for thing in sample.sibling.scene.things}
        yield (
            any(noun.kind in world.concepts for _, noun in related),
            bool(said & world.new_colours)
            or any((noun.kind, FAMILY_OF[r]) in world.new_relations for r, noun in related),
            bool(shown & world.new_colours),
        )


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_training_and_its_tests_hold_nothing_new(samples, world, split):
    assert set(said_and_shown(samples[split], world)) == {(False, False, False)}


def test_combinations_are_new_in_every_caption(samples, world):
    found = list(said_and_shown(samples["combinations"], world))
    assert {(concept, new) for concept, new, _ in found} == {(False, True)}
    assert {shown for _, _, shown in found} == {True, False}


def test_concepts_are_related_in_every_caption(samples, world):
    assert set(said_and_shown(samples["concepts"], world)) == {(True, False, False)}


def test_training_names_the_concepts_all_the_same(samples, world):
    texts = " ".join(sample.caption for sample in samples["train"])
    assert all(concept in texts for concept in world.concepts)
