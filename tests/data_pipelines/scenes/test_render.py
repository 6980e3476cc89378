"""Pictures show their scenes: by another way of painting, and by looking at them."""

from itertools import permutations

import numpy as np
import pytest
import torch
from PIL import Image

from data_pipelines.errors import UserError
from data_pipelines.scenes.cut_outs import names, read_cut_outs
from data_pipelines.scenes.render import atlas_fingerprint, atlas_of, paint, scene_numbers
from data_pipelines.scenes.scene import CANVAS, Scene, Thing, stands
from data_pipelines.scenes.signs import written
from data_pipelines.scenes.world import BACKGROUNDS, COLOURS


@pytest.fixture(scope="module")
def scenes(samples):
    """Of all constructions, and the one that shows most things."""
    most = written(("tree", "red"), ("star", "cat", "key", "star") * 2, 1)
    return [most, *(sample.sibling.scene for sample in samples["train"][:200])]


def painted(scenes, cut_outs, size):
    return paint(scene_numbers(scenes, names(cut_outs)), atlas_of(cut_outs, size), size)


@pytest.mark.parametrize("size", [32, 64, 40])
def test_pillow_paints_the_same_pictures(scenes, cut_outs, size):
    pictures = painted(scenes[:40], cut_outs, size)
    assert pictures.shape == (40, 3, size, size)
    by_kind = {cut_out.kind: cut_out for cut_out in cut_outs}
    for scene, picture in zip(scenes, pictures, strict=False):
        expected = Image.new("RGBA", (size, size), BACKGROUNDS[scene.background])
        for thing in sorted(scene.things, key=lambda thing: thing.depth):
            side = thing.size * size // CANVAS
            grey, alpha = by_kind[thing.kind].shrunk(side)
            colour = np.array(COLOURS[thing.colour])
            pixels = np.dstack([np.rint(grey[..., None] * colour / 255), alpha]).astype(np.uint8)
            layer = Image.new("RGBA", (size, size))
            corner = tuple(place * size // CANVAS - side // 2 for place in (thing.x, thing.y))
            layer.paste(Image.fromarray(pixels), corner)
            expected.alpha_composite(layer)
        difference = picture.permute(1, 2, 0).numpy().astype(int) - np.array(expected)[..., :3]
        assert abs(difference).max() <= 2


def test_every_thing_is_seen_in_its_colour(scenes, cut_outs):
    palette = np.array(list(COLOURS.values()))
    pictures = painted(scenes, cut_outs, 32).permute(0, 2, 3, 1).numpy().astype(int)
    for scene, picture in zip(scenes, pictures, strict=True):
        without = painted(
            [scene._replace(things=scene.things[:n] + scene.things[n + 1 :])
             for n in range(len(scene.things))], cut_outs, 32
        )  # fmt: skip
        for thing, rest in zip(scene.things, without, strict=True):
            difference = abs(picture - rest.permute(1, 2, 0).numpy().astype(int)).sum(axis=2)
            clearest = difference.ravel().argsort()[-8:]
            assert difference.ravel()[clearest[0]] > 80, f"{thing} is hardly seen in {scene}"
            seen = picture.reshape(-1, 3)[clearest]
            # Hue counts, not shade: yellow in the shadow is not green.
            tints = palette / np.linalg.norm(palette, axis=1, keepdims=True)
            likeness = (seen / np.linalg.norm(seen, axis=1, keepdims=True)) @ tints.T
            nearest = np.bincount(likeness.argmax(axis=1), minlength=len(palette)).argmax()
            assert list(COLOURS)[nearest] == thing.colour


def test_whoever_is_in_front_can_be_seen(samples, cut_outs):
    seen = 0
    for sample in samples["train"]:
        scene = sample.sibling.scene
        for one, other in permutations(scene.things, 2):
            if stands("before", one, other):
                turned = tuple(
                    thing._replace(depth={one: other, other: one}.get(thing, thing).depth)
                    for thing in scene.things
                )
                front, back = painted([scene, scene._replace(things=turned)], cut_outs, 32).int()
                assert ((front - back).abs().amax(dim=0) > 40).sum() >= 4, scene
                seen += 1
    assert seen > 50


def test_kinds_can_be_told_apart_at_8_pixels(cut_outs):
    grey, alpha = np.stack([cut_out.shrunk(8) for cut_out in cut_outs]).astype(float).swapaxes(0, 1)
    forms = np.where(alpha > 0, grey, 0) * alpha / 255 / 255
    for one in range(len(forms)):
        for other in range(one):
            # Wherever they stand: the nearest of nine shifts.
            shifted = [np.roll(forms[one], (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
            distance = min(np.abs(form - forms[other]).sum() for form in shifted)
            assert distance > 6, (cut_outs[one].kind, cut_outs[other].kind)


def test_things_at_the_edge_and_on_top_are_painted_as_such(cut_outs):
    kinds = names(cut_outs)
    below = Thing("heart", "red", 24, 12, 12, 0)
    scene = Scene((below, Thing("heart", "blue", 24, 12, 12, 1)), 0)
    pictures = painted([scene, scene._replace(things=scene.things[1:])], cut_outs, 32)
    whole = atlas_of(cut_outs, 32)[kinds.index("heart"), 1, 1] == 255
    assert torch.equal(pictures[0, :, :12, :12][:, whole], pictures[1, :, :12, :12][:, whole])
    corner = painted([Scene((below._replace(x=52, y=52),), 0)], cut_outs, 32)
    assert torch.equal(corner[0, :, 20:, 20:], painted([Scene((below,), 0)], cut_outs, 32)[0, :, :12, :12])  # fmt: skip


def test_a_batch_is_painted_as_its_scenes_are_one_by_one(scenes, cut_outs):
    alone = torch.cat([painted([scene], cut_outs, 32) for scene in scenes[:10]])
    assert torch.equal(painted(scenes[:10], cut_outs, 32), alone)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_paints_the_same_bytes(scenes, cut_outs):
    numbers, atlas = scene_numbers(scenes, names(cut_outs)), atlas_of(cut_outs, 64)
    device = torch.device("cuda")
    on_device = paint(numbers.to(device), atlas.to(device), 64)
    assert torch.equal(on_device.cpu(), paint(numbers, atlas, 64))


def test_the_drawings_are_those_that_were_looked_at(cut_outs):
    """Other pixels mean other data: then samples.FORMAT_VERSION changes too."""
    assert atlas_fingerprint(atlas_of(cut_outs, 32)).startswith("c27c40fb")


def form(size=(20, 30), colour=(200, 30, 30, 255)):
    picture = Image.new("RGBA", (40, 40))
    picture.paste(Image.new("RGBA", size, colour), (5, 3))
    return picture


def test_a_folder_of_transparent_pictures_gives_kinds_by_their_names(tmp_path):
    for number, name in enumerate(("Teddy_Bear", "ball", "cube", "disc", "egg", "fan", "gun")):
        form((10 + number, 30 - number)).save(tmp_path / f"{name}.png")
    found = read_cut_outs(str(tmp_path), 7)
    assert sorted(names(found)) == ["ball", "cube", "disc", "egg", "fan", "gun", "teddy bear"]
    grey, alpha = found[0].shrunk(8)
    assert (grey[alpha == 255] == 255).all()
    # Its form, 10 x 30 pixels, stands in the middle of a square.
    assert [int(alpha[4, column]) > 0 for column in (0, 4, 7)] == [False, True, False]


@pytest.mark.parametrize(
    ("name", "picture", "words"),
    [
        ("cat.png", Image.new("RGB", (9, 9)), "is not a form on a transparent ground"),
        ("cat.png", Image.new("RGBA", (9, 9)), "is not a form on a transparent ground"),
        ("cat1.png", form(), "does not say what it shows"),
        ("cat.png", None, "is no PNG that can be read"),
        ("cat.png", form(), "offers 1"),
    ],
)
def test_cut_outs_that_cannot_be_used_are_named(tmp_path, name, picture, words):
    if picture is None:
        (tmp_path / name).write_bytes(b"\x89PNG nonsense")
    else:
        picture.save(tmp_path / name)
    with pytest.raises(UserError, match=words):
        read_cut_outs(str(tmp_path), 7)


def test_two_cut_outs_of_one_name_are_refused(tmp_path):
    for name in ("teddy bear.png", "Teddy_Bear.png"):
        form().save(tmp_path / name)
    with pytest.raises(UserError, match="shows a teddy bear, as another file of the folder does"):
        read_cut_outs(str(tmp_path), 7)


def test_a_size_at_which_things_are_no_whole_pixels_is_refused(cut_outs):
    with pytest.raises(UserError, match="--picture-size is 30"):
        atlas_of(cut_outs, 30)
