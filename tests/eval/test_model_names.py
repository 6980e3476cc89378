"""Other people's models by name: their own way with pictures, a hash of all that counts, one line for mistakes."""

import contextlib
import json
import logging
import shutil
import socket
import sys

import foreign_models
import onnxruntime
import open_clip
import pytest
import torch
import transformers
from foreign_models import SIDE
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from data_pipelines.errors import UserError
from data_pipelines.resize import resize_picture
from eval.encoder import DEFAULT_VARIANT
from eval.model_names import is_named, load_named

PICTURES = foreign_models.pictures()
IMAGES = [Image.fromarray(picture) for picture in PICTURES]


def images_of_hugging_face(folder):
    model = transformers.AutoModel.from_pretrained(folder)
    inputs = transformers.AutoImageProcessor.from_pretrained(folder)(IMAGES, return_tensors="pt")
    with torch.no_grad():
        return model.get_image_features(**inputs).pooler_output


def images_of_open_clip(folder):
    model, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    with torch.no_grad():
        return model.eval().encode_image(torch.stack([prepare(image) for image in IMAGES]))


def images_of_sentence_transformers(folder):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder)).encode(IMAGES, convert_to_tensor=True).clone()


def images_of_graph(folder):
    squares = torch.stack([resize_picture(picture, SIDE) for picture in PICTURES])
    session = onnxruntime.InferenceSession(folder / "image.onnx")
    return torch.from_numpy(
        session.run(None, {"pixels": ((squares / 255 - 0.5) / 0.25).numpy()})[0]
    )


def sentence_transformer(folder):
    return foreign_models.sentence_transformer(
        folder / "st", foreign_models.clip(folder / "hugging_face")
    )


KINDS = {
    "hf SigLIP": ("hf:", foreign_models.siglip, images_of_hugging_face),
    "hf NaFlex": ("hf:", foreign_models.naflex, images_of_hugging_face),
    "hf CLIP": ("hf:", foreign_models.clip, images_of_hugging_face),
    "open_clip SigLIP": (
        "open_clip:local-dir:",
        foreign_models.open_clip_siglip,
        images_of_open_clip,
    ),
    "open_clip CLIP": ("open_clip:local-dir:", foreign_models.open_clip_clip, images_of_open_clip),
    "sentence-transformers": (
        "sentence_transformers:",
        sentence_transformer,
        images_of_sentence_transformers,
    ),
    "ONNX": ("onnx:", foreign_models.onnx_pair, images_of_graph),
}


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    """The prefix of the name, the folder, and the library's own way with pictures."""
    prefix, build, right = KINDS[request.param]
    return prefix, build(tmp_path_factory.mktemp("model") / "model"), right


@pytest.fixture
def no_network(monkeypatch):
    """Whoever opens a connection fails the test, in words that no library would swallow unseen."""
    tried = []

    def connect(*given):
        tried.append(given)
        raise OSError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield
    assert not tried


def test_pictures_are_prepared_as_the_library_does_it(model, no_network):
    prefix, folder, right = model
    encoder = load_named(f"{prefix}{folder}", "cpu")
    vectors = encoder.encode_images(PICTURES, [DEFAULT_VARIANT])[DEFAULT_VARIANT]
    torch.testing.assert_close(vectors, normalize(right(folder), dim=-1), rtol=0, atol=1e-5)
    again = encoder.encode_images(PICTURES[:1], [DEFAULT_VARIANT])[DEFAULT_VARIANT]
    torch.testing.assert_close(vectors[:1], again, rtol=0, atol=1e-5)


def test_a_copy_has_the_fingerprint_of_its_original_and_no_other_model_has_it(model, tmp_path):
    prefix, folder, _ = model
    shutil.copytree(folder, tmp_path / "copy")
    fingerprint = load_named(f"{prefix}{folder}", "cpu").fingerprint
    assert len(fingerprint) == 64
    assert load_named(f"{prefix}{tmp_path / 'copy'}", "cpu").fingerprint == fingerprint
    for change in (other_weights, other_preparation):
        shutil.copytree(folder, tmp_path / change.__name__)
        change(tmp_path / change.__name__)
        changed = load_named(f"{prefix}{tmp_path / change.__name__}", "cpu")
        assert changed.fingerprint != fingerprint, change.__name__


def other_weights(folder):
    graph = folder / "image.onnx"
    if graph.exists():
        # The last weight stands before the names of inputs and outputs; any byte of them will do.
        content = bytearray(graph.read_bytes())
        content[len(content) // 2] ^= 1
        graph.write_bytes(content)
        return
    path = next(folder.rglob("*.safetensors"))
    tensors = load_file(path)
    tensors["logit_scale"] = tensors["logit_scale"] + 1
    save_file(tensors, path, metadata={"format": "pt"})


def other_preparation(folder):
    for name in ("processor_config.json", "open_clip_config.json", "onnx.json"):
        for path in folder.rglob(name):
            described = json.loads(path.read_text())
            images = described.get("image_processor") or described.get("preprocess_cfg")
            if name == "onnx.json":
                described["image"]["std"] = [0.1, 0.2, 0.3]
            elif name == "open_clip_config.json":
                described["preprocess_cfg"] = {**images, "std": [0.1, 0.2, 0.3]}
            else:
                images["image_std"] = [0.1, 0.2, 0.3]
            path.write_text(json.dumps(described))


def test_a_name_tells_the_library_and_the_model_and_no_folder_of_the_machine(model):
    prefix, folder, _ = model
    assert is_named(f"{prefix}{folder}")
    assert load_named(f"{prefix}{folder}", "cpu").name == f"{prefix}{folder.name}"
    assert not is_named("runs/emoji")
    assert not is_named("hf")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("runs/emoji", "names no model"),
        ("hf:", "names no model"),
        ("hf:{tmp}/none", "there is no folder"),
        ("hf:{tmp}", "cannot load the Hugging Face model"),
        ("sentence_transformers:{tmp}", "cannot load the sentence-transformers model"),
        ("onnx:{tmp}", "there is no {tmp}/onnx.json"),
        ("open_clip:local-dir:{tmp}", "cannot load open_clip:local-dir"),
        ("open_clip:ViT-B-32", "names no weights"),
        ("open_clip:ViT-B-33:{tmp}", "did you mean ViT-B-32"),
        ("open_clip:ViT-B-32:openai", "there is no file openai"),
        ("open_clip:ViT-B-32:{tmp}", "holds no weights"),
        ("open_clip:ViT-L-14:{tmp}/a.pt", "in several ways for ViT-L-14"),
    ],
)
def test_a_mistake_is_told_in_one_line(name, told, tmp_path, no_network):
    if "a.pt" in name:
        (tmp_path / "a.pt").touch()
    with pytest.raises(UserError, match=told.format(tmp=tmp_path)) as raised:
        load_named(name.format(tmp=tmp_path), "cpu")
    assert "\n" not in str(raised.value)


def test_a_tokenizer_that_is_only_on_the_hub_is_named_with_the_mend(tmp_path, no_network):
    folder = foreign_models.open_clip_siglip(tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(UserError, match=r"nobody/has-this-tokenizer on the hub.*put its files"):
        load_named(f"open_clip:local-dir:{folder}", "cpu")


def test_weights_that_are_wanting_are_not_filled_at_random(tmp_path):
    folder = foreign_models.siglip(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    removed = sorted(tensors)[-1]
    del tensors[removed]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"lack 1 tensors .* such as {removed}"):
        load_named(f"hf:{folder}", "cpu")
    for build in (foreign_models.open_clip_clip, foreign_models.open_clip_siglip):
        folder = build(tmp_path / build.__name__)
        (folder / "open_clip_model.safetensors").unlink()
        with pytest.raises(UserError, match="cannot load"):
            load_named(f"open_clip:local-dir:{folder}", "cpu")


def test_pickles_are_no_weights(tmp_path):
    folder = foreign_models.siglip(tmp_path / "model")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot load"):
        load_named(f"hf:{folder}", "cpu")


@pytest.mark.parametrize("library", ["hf", "sentence_transformers"])
def test_code_in_a_folder_is_not_run(library, tmp_path):
    folder = foreign_models.siglip(tmp_path / "hugging_face")
    if library == "sentence_transformers":
        folder = foreign_models.sentence_transformer(tmp_path / "st", folder)
        modules = json.loads((folder / "modules.json").read_text())
        modules[0]["type"] = "hostile.Hostile"
        (folder / "modules.json").write_text(json.dumps(modules))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "hostile", "auto_map": {"AutoConfig": "hostile.Hostile"}}
    (folder / "config.json").write_text(json.dumps(config))
    code = f"open({str(tmp_path / 'canary')!r}, 'w')\nclass Hostile: pass\n"
    (folder / "hostile.py").write_text(code)
    with pytest.raises(UserError, match="cannot load"):
        load_named(f"{library}:{folder}", "cpu")
    assert not (tmp_path / "canary").exists()


def test_nobody_is_asked_whether_code_shall_be_run(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda question: "yes")
    folder = foreign_models.open_clip_clip(tmp_path / "model")
    text = tmp_path / "text"
    text.mkdir()
    (text / "hostile.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\n")
    hostile = {"model_type": "hostile", "auto_map": {"AutoConfig": "hostile.Hostile"}}
    (text / "config.json").write_text(json.dumps(hostile))
    described = json.loads((folder / "open_clip_config.json").read_text())
    described["model_cfg"]["text_cfg"] |= {"hf_model_name": str(text), "hf_proj_type": "mlp"}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match="cannot load"):
        load_named(f"open_clip:local-dir:{folder}", "cpu")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("library", "package"),
    [("sentence_transformers", "sentence_transformers"), ("onnx", "onnxruntime")],
)
def test_a_missing_package_is_named_with_its_extra(library, package, tmp_path, monkeypatch):
    folder = foreign_models.onnx_pair(tmp_path / "model")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package}.*pip install 'rins_mm\[export\]'"):
        load_named(f"{library}:{folder}", "cpu")


def changed(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("library", ["hf", "sentence_transformers"])
def test_towers_without_end_are_refused_before_they_are_built(library, tmp_path):
    folder = foreign_models.siglip(tmp_path / "hugging_face")
    if library == "sentence_transformers":
        folder = foreign_models.sentence_transformer(tmp_path / "st", folder)
    text = json.loads((folder / "config.json").read_text())["text_config"]
    changed(folder / "config.json", text_config=text | {"num_hidden_layers": 10**8})
    with pytest.raises(UserError, match="wants 100,000,000 layers, and 1,000 is the limit"):
        load_named(f"{library}:{folder}", "cpu")


def test_pictures_without_end_and_names_that_are_no_text_are_told_in_one_line(tmp_path):
    folder = foreign_models.siglip(tmp_path / "huge")
    pictures = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    pictures |= {"size": {"height": 10**6, "width": 10**6}}
    changed(folder / "processor_config.json", image_processor=pictures)
    with pytest.raises(UserError, match="pictures of 1,000,000 pixels; 8,192 is the limit"):
        load_named(f"hf:{folder}", "cpu")
    folder = foreign_models.siglip(tmp_path / "surrogate")
    changed(folder / "tokenizer_config.json", odd="\ud800")
    with pytest.raises(UserError, match="cannot load the Hugging Face model"):
        load_named(f"hf:{folder}", "cpu")


def test_a_model_of_another_kind_is_refused(tmp_path):
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="of the kind 'bert'; this program reads siglip"):
        load_named(f"hf:{tmp_path}", "cpu")


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """A tiny SigLIP as if it stood in open_clip's list with published weights, and its folder."""
    folder = foreign_models.open_clip_siglip(tmp_path / "model")
    described = json.loads((folder / "open_clip_config.json").read_text())
    (folder / "open_clip_config.json").unlink()
    way = {
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Tiny-SigLIP", described["model_cfg"])
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "Tiny-SigLIP", {"webli": way})
    return folder


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_weights_in_a_file_get_the_preparation_of_the_published_ones(listed, ending, no_network):
    weights = listed / "open_clip_model.safetensors"
    if ending == "pt":
        torch.save({"state_dict": load_file(weights), "epoch": 3}, listed / "epoch_3.pt")
        weights.unlink()
        weights = listed / "epoch_3.pt"
    encoder = load_named(f"open_clip:Tiny-SigLIP:{weights}", "cpu")
    vectors = encoder.encode_images(PICTURES, [DEFAULT_VARIANT])[DEFAULT_VARIANT]
    made, _, clip_way = open_clip.create_model_and_transforms("Tiny-SigLIP", str(weights))
    right_way = image_transform_v2(
        PreprocessCfg(SIDE, mean=(0.5,) * 3, std=(0.5,) * 3, resize_mode="squash"), is_train=False
    )
    with torch.no_grad():
        right, clip = (
            normalize(made.eval().encode_image(torch.stack([way(i) for i in IMAGES])), dim=-1)
            for way in (right_way, clip_way)
        )
    torch.testing.assert_close(vectors, right, rtol=0, atol=1e-5)
    # What open_clip does with a path, and CLIP_benchmark with it.
    assert not torch.allclose(vectors, clip, atol=1e-2)


def test_a_folder_with_one_file_of_weights_names_it(listed):
    by_folder = load_named(f"open_clip:Tiny-SigLIP:{listed}", "cpu")
    weights = listed / "open_clip_model.safetensors"
    assert (
        by_folder.fingerprint == load_named(f"open_clip:Tiny-SigLIP:{weights}", "cpu").fingerprint
    )
    assert by_folder.name == "open_clip:Tiny-SigLIP:model"
    shutil.copy(weights, listed / "another.safetensors")
    with pytest.raises(UserError, match=r"holds 2 \.safetensors files"):
        load_named(f"open_clip:Tiny-SigLIP:{listed}", "cpu")


def test_weights_of_another_model_are_refused(listed, tmp_path):
    other = foreign_models.open_clip_clip(tmp_path / "other") / "open_clip_model.safetensors"
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(listed / file, tmp_path / "other" / file)
    with pytest.raises(UserError, match=r"cannot load open_clip:Tiny-SigLIP:.*size mismatch"):
        load_named(f"open_clip:Tiny-SigLIP:{other}", "cpu")


class HeardLog(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.words = []

    def emit(self, record):
        self.words.append(record.getMessage())


@pytest.mark.parametrize("kind", ["hf SigLIP", "sentence-transformers"])
def test_what_a_strangers_files_say_to_a_librarys_log_reaches_no_terminal(kind, tmp_path):
    prefix, build, _ = KINDS[kind]
    folder = build(tmp_path / "model")
    told = "a\x1b]0;owned\x07\nerror: all is well"
    for name in ("config.json", "config_sentence_transformers.json"):
        path = folder / name
        if path.exists():
            said = json.loads(path.read_text()) | {
                "is_heterogeneous": told,
                "default_prompt_name": told,
            }
            path.write_text(json.dumps(said))
    before = logging.root.manager.disable
    heard = HeardLog()
    loggers = [logging.getLogger(name) for name in ("", "transformers", "sentence_transformers")]
    for logger in loggers:
        logger.addHandler(heard)
    try:
        with contextlib.suppress(UserError):
            load_named(f"{prefix}{folder}", "cpu").encode_texts(["a"], [DEFAULT_VARIANT])
    finally:
        for logger in loggers:
            logger.removeHandler(heard)
    assert not any("owned" in words for words in heard.words)
    assert logging.root.manager.disable == before
