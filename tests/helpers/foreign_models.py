"""Tiny random models of other libraries' own classes, saved as those libraries save them."""

import io
import json
from pathlib import Path

import numpy as np
import onnx
import open_clip
import sentencepiece
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from data_pipelines.tokenizers import SentencePieceTokenizer

CONTEXT = 16
SIDE = 32
WIDTH = 32
WORDS = [
    "a photo of a cat",
    "the quick brown fox jumps over the lazy dog",
    "red apple, green tree; blue sky!",
    "seven small drawings of seven big pictures",
]
TOWER = {
    "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip
IMAGES = {"image_size": SIDE, "patch_size": 16}


def siglip(folder: Path) -> Path:
    """SigLIP with its own tokenizer: sentencepiece, which lowers case and drops punctuation."""
    tokenizer = transformers.SiglipTokenizer(_sentencepiece(folder), model_max_length=CONTEXT)
    return _saved_siglip(folder, tokenizer, vocab_size=tokenizer.vocab_size)


def siglip_2(folder: Path) -> Path:
    """The small SigLIP 2: SigLIP's classes with Gemma's kind of tokenizer, which keeps capitals."""
    tokenizer = _byte_pairs(capitals=True)
    return _saved_siglip(folder, tokenizer, vocab_size=len(tokenizer))


def naflex(folder: Path) -> Path:
    """The SigLIP 2 that takes pictures of any shape; its tokenizer would pad on the left."""
    pairs = json.loads(_byte_pairs(capitals=False).backend_tokenizer.to_str())["model"]
    tokenizer = transformers.Siglip2Tokenizer(
        vocab=pairs["vocab"], merges=[tuple(pair) for pair in pairs["merges"]]
    )
    torch.manual_seed(0)
    config = transformers.Siglip2Config(
        text_config=_text_config(len(tokenizer)) | {"projection_size": WIDTH},
        vision_config=TOWER | {"patch_size": 16, "num_patches": 16},
    )
    transformers.Siglip2Model(config).save_pretrained(folder)
    transformers.Siglip2Processor(
        transformers.Siglip2ImageProcessor(patch_size=16, max_num_patches=16), tokenizer
    ).save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    """CLIP with byte pairs."""
    tokenizer = _byte_pairs(capitals=False)
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config=_text_config(len(tokenizer))
        | {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id},
        vision_config=TOWER | IMAGES,
        projection_dim=24,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    transformers.CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def sentence_transformer(folder: Path, of: Path) -> Path:
    """A sentence-transformers folder of the Hugging Face model in another folder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Transformer

    SentenceTransformer(modules=[Transformer(str(of))], device="cpu").save_pretrained(
        str(folder), create_model_card=False
    )
    return folder


def open_clip_siglip(folder: Path) -> Path:
    """An open_clip folder with a SigLIP text tower: no mask, the last of all places."""
    text = {
        "hf_tokenizer_name": "nobody/has-this-tokenizer",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "no_causal_mask": True, "proj_bias": True, "pool_type": "last",
    }  # fmt: skip
    tokenizer = _byte_pairs(capitals=True)
    preparation = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
    _save_open_clip(folder, text, len(tokenizer), preparation)
    tokenizer.save_pretrained(folder)
    return folder


def open_clip_timm(folder: Path) -> Path:
    """The same kind of text tower beside an image tower of timm's, so that a run can begin with both."""
    text = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
    tower = {
        "timm_model_name": "test_vit",
        "timm_proj": "linear",
        "timm_pool": "",
        "image_size": SIDE,
    }
    _save_open_clip(folder, text, tiny_tokenizer().vocab_size, {}, tower)
    return folder


def open_clip_clip(folder: Path) -> Path:
    """An open_clip folder with CLIP's text tower and the vocabulary that open_clip carries."""
    _save_open_clip(folder, {}, 49408, {})
    return folder


def _save_open_clip(
    folder: Path, text: dict, vocab_size: int, preparation: dict, tower: dict | None = None
) -> None:
    model_config = {
        "embed_dim": 24,
        "custom_text": bool(text),
        "vision_cfg": tower or {"image_size": SIDE, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {
            "context_length": CONTEXT, "vocab_size": vocab_size, "width": WIDTH, "heads": 2,
            "layers": 2, **text,
        },
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    described = {"model_cfg": model_config, "preprocess_cfg": preparation}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    torch.manual_seed(0)
    kind = open_clip.CustomTextCLIP if text else open_clip.CLIP
    settings = {name: value for name, value in model_config.items() if name != "custom_text"}
    model = kind(**settings)
    # open_clip begins with positions so small that wrong padding would hardly show.
    positions = (model.text if text else model).positional_embedding
    torch.nn.init.normal_(positions, std=0.5)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")


def _saved_siglip(folder: Path, tokenizer, vocab_size: int) -> Path:
    torch.manual_seed(0)
    config = transformers.SiglipConfig(
        text_config=_text_config(vocab_size) | {"projection_size": WIDTH},
        vision_config=TOWER | IMAGES,
    )
    transformers.SiglipModel(config).save_pretrained(folder)
    images = transformers.SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
    transformers.SiglipProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def _text_config(vocab_size: int) -> dict:
    return TOWER | {
        "vocab_size": vocab_size, "max_position_embeddings": CONTEXT,
        "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
    }  # fmt: skip


def _sentencepiece(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "spiece.model"
    path.write_bytes(_trained_sentencepiece())
    return str(path)


def _trained_sentencepiece() -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS * 10), model_writer=model, vocab_size=64,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=3,
    )  # fmt: skip
    return model.getvalue()


def _byte_pairs(*, capitals: bool) -> transformers.PreTrainedTokenizerFast:
    """Byte pairs with a begin and an end token; `capitals` are tokens of their own."""
    pairs = Tokenizer(models.BPE(unk_token="<unk>"))
    pairs.normalizer = normalizers.Sequence([] if capitals else [normalizers.Lowercase()])
    pairs.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    words = WORDS + [line.upper() for line in WORDS]
    pairs.train_from_iterator(words, trainers.BpeTrainer(vocab_size=200, special_tokens=special))
    pairs.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>" if not capitals else "$A <eos>",
        special_tokens=[("<bos>", 2), ("<eos>", 1)],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=pairs, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>",
        unk_token="<unk>", model_max_length=CONTEXT,
    )  # fmt: skip


def pictures() -> list[np.ndarray]:
    """Five pictures of several shapes."""
    numbers = np.random.default_rng(0)
    shapes = [(32, 32), (40, 56), (64, 33), (30, 20), (48, 48)]
    return [numbers.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


def onnx_pair(folder: Path, *, with_mask: bool = False) -> Path:
    """Two small graphs: a text is the mean over all places of the row, or over its tokens alone."""
    numbers = np.random.default_rng(0)
    tokenizer = tiny_tokenizer()
    tokenizer.save(folder)
    table = numbers.normal(size=(tokenizer.vocab_size, WIDTH)).astype(np.float32)
    places = numbers.normal(size=(CONTEXT, WIDTH)).astype(np.float32)
    _save_graph(folder / "text.onnx", *_text_graph(with_mask), {"table": table, "places": places})
    projection = numbers.normal(size=(3 * SIDE * SIDE, WIDTH)).astype(np.float32) / 50
    image_nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "projection"], ["vectors"]),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])
    _save_graph(folder / "image.onnx", image_nodes, [pixels], {"projection": projection})
    text = {"input": "ids", "mask": "mask" if with_mask else None, "output": "vectors"}
    image = {
        "input": "pixels",
        "output": "vectors",
        "size": SIDE,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    described = {"format_version": 1, "image": image, "text": text | {"context_length": CONTEXT}}
    (folder / "onnx.json").write_text(json.dumps(described))
    return folder


def tiny_tokenizer() -> SentencePieceTokenizer:
    """A tokenizer of this project over the words of these tests."""
    return SentencePieceTokenizer(
        _trained_sentencepiece(), canonicalize="lower_no_punctuation", context_length=CONTEXT
    )


def _text_graph(with_mask: bool) -> tuple[list, list]:
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", "L"])
    mask = helper.make_tensor_value_info("mask", TensorProto.INT64, ["N", "L"])
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["tokens"]),
        # Rows that are shorter than the context would fail here, and not go wrong in silence;
        # so that they can, the places are cut to the row.
        helper.make_node("Shape", ["ids"], ["length"], start=1, end=2),
        helper.make_node("Slice", ["places", "zero", "length"], ["cut"]),
        helper.make_node("Add", ["tokens", "cut"], ["placed"]),
        helper.make_node("Tanh", ["placed"], ["bent"]),
    ]
    if not with_mask:
        mean = helper.make_node("ReduceMean", ["bent", "one"], ["vectors"], keepdims=0)
        return [*nodes, mean], [ids]
    return [
        *nodes,
        helper.make_node("Cast", ["mask"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "two"], ["columns"]),
        helper.make_node("Mul", ["bent", "columns"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["vectors"], keepdims=0),
    ], [ids, mask]


def _save_graph(path: Path, nodes: list, inputs: list, arrays: dict[str, np.ndarray]) -> None:
    used = {name for node in nodes for name in node.input}
    numbers = {name: np.array([value]) for value, name in enumerate(("zero", "one", "two"))}
    constants = {name: array for name, array in (numbers | arrays).items() if name in used}
    graph = helper.make_graph(
        nodes, path.stem, inputs,
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["N", WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
