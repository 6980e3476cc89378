"""A sentencepiece tokenizer, with the canonical form of its strings, as one `tokenizer.json` of Hugging Face.

The same ids as `data_pipelines.tokenizers`, without that program: what is done to strings in Python there
is done by regular expressions here, and sentencepiece's own steps by their equals. Two exceptions are known:
sentencepiece makes one letter of a symbol and an accent (a double-struck N with a cedilla) that stay two here;
and of two ways to cut a text that are equally likely (a sign a hundred times) the other may be taken.
"""

import json
from pathlib import Path
from typing import Any

import sentencepiece

from data_pipelines.errors import UserError
from data_pipelines.tokenizers import SentencePieceTokenizer, Tokenizer

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
"""Kinds of pieces that a sentencepiece model may have here."""
BPE = 2
"""The model_type of byte pairs; 1 is unigram."""

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""Written for a space in pieces."""

PUNCTUATION = r"[!-/:-@\[-`{-~]"
WHITESPACE = r"[\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]+"
"""What str.split takes for spaces."""

FINAL_SIGMA = r"\p{Cased}\p{Case_Ignorable}*\K\x{3a3}(?!\p{Case_Ignorable}*\p{Cased})"
"""A sigma that ends a word, whose lower case is of another form."""


ACCENT = r"[\p{M}\x{200c}\x{200d}]"
"""What makes one character, as people see it, with what stands before it."""
BREAK = "\ufff8"
"""No character, and an end of what people see as one."""


def write_fast_tokenizer(tokenizer: Tokenizer, folder: Path, *, pad_left: bool) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`, which AutoTokenizer reads.

    `pad_left`: padding stands before the caption, and is masked. Raises UserError for a tokenizer that
    such a file cannot express.
    """
    fast = fast_tokenizer(sentencepiece_of(tokenizer))
    # Padding and truncation are the caller's to choose; the configuration says how.
    fast.save(str(folder / "tokenizer.json"))
    end = fast.id_to_token(tokenizer.end_token)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": tokenizer.context_length,
        "padding_side": "left" if pad_left else "right",
        "truncation_side": "right",
        "model_input_names": ["input_ids", "attention_mask"] if pad_left else ["input_ids"],
        "eos_token": end,
        "pad_token": end if pad_left else fast.id_to_token(tokenizer.pad_token),
        # What looks like a special token in a caption is text.
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
        # What a processor does unless it is told otherwise.
        "padding": "max_length",
        "truncation": True,
        "max_length": tokenizer.context_length,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def sentencepiece_of(tokenizer: Tokenizer) -> SentencePieceTokenizer:
    """The tokenizer, if it is of the kind that can be written so; else a UserError."""
    if isinstance(tokenizer, SentencePieceTokenizer):
        return tokenizer
    raise UserError(
        f"the tokenizer is a {type(tokenizer).__name__}, which is not written as a tokenizer.json; "
        "export the format native, or train with a sentencepiece model"
    )


def fast_tokenizer(tokenizer: SentencePieceTokenizer) -> Any:
    """The `tokenizers.Tokenizer` that gives the same ids, without truncation and padding."""
    from tokenizers import AddedToken, decoders, processors
    from tokenizers import Tokenizer as FastTokenizer

    proto = _read_proto(tokenizer.model)
    kinds = [piece.type for piece in proto.pieces]
    if odd := [p.piece for p in proto.pieces if p.type not in (NORMAL, UNKNOWN, CONTROL, BYTE)]:
        raise UserError(
            f"the sentencepiece model has {len(odd)} pieces of the user's own ({odd[0]!r}), which are cut out "
            "first and which a tokenizer.json does not cut in the same way; export the format native"
        )
    # With spaces in their names, which no text has left where pieces are looked up.
    names = [
        f"< {piece.piece.strip('<>')} >" if piece.type in (CONTROL, UNKNOWN) else piece.piece
        for piece in proto.pieces
    ]
    fast = FastTokenizer(_model(proto, names))
    fast.normalizer = _normalizer(tokenizer, proto.normalizer_spec)
    fast.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.Strip(" ", 1, 0)])
    special = [
        AddedToken(name, special=True, normalized=False)
        for name, kind in zip(names, kinds, strict=True)
        if kind in (CONTROL, UNKNOWN)
    ]
    fast.add_special_tokens(special)
    fast.encode_special_tokens = True
    end = names[tokenizer.end_token]
    fast.post_processor = processors.TemplateProcessing(
        single=["$A", "</s>"], special_tokens=[
            {"id": "</s>", "ids": [tokenizer.end_token], "tokens": [end]}
        ],
    )  # fmt: skip
    return fast


def _read_proto(model: bytes) -> Any:
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    return proto


def _model(proto: Any, names: list[str]) -> Any:
    from tokenizers import models

    unknown = [piece.type for piece in proto.pieces].index(UNKNOWN)
    byte_fallback = proto.trainer_spec.byte_fallback
    if proto.trainer_spec.model_type != BPE:
        scored = [(name, piece.score) for name, piece in zip(names, proto.pieces, strict=True)]
        return models.Unigram(scored, unknown, byte_fallback)
    numbers = {name: number for number, name in enumerate(names)}
    scores = {p.piece: p.score for p in proto.pieces if p.type == NORMAL}
    # Of all pairs that make a piece, the one whose piece has the best score is joined first.
    pairs = [
        (-score, piece[:cut], piece[cut:])
        for piece, score in scores.items()
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    return models.BPE(
        vocab=numbers,
        merges=[(left, right) for _, left, right in sorted(pairs)],
        unk_token=names[unknown],
        fuse_unk=True,
        byte_fallback=byte_fallback,
    )


def _normalizer(tokenizer: SentencePieceTokenizer, spec: Any) -> Any:
    """Strings to the form in which sentencepiece looks for pieces."""
    from tokenizers import Regex, normalizers

    canonicalize = tokenizer.canonicalize

    def replace(pattern: str, content: str) -> Any:
        return normalizers.Replace(Regex(pattern), content)

    if canonicalize == "bag_of_words":
        raise UserError(
            "the tokenizer sorts the words of a caption (bag_of_words), which a tokenizer.json cannot do; "
            "export the format native"
        )
    steps = []
    if canonicalize == "lower_no_punctuation":
        steps += [normalizers.Replace("_", " "), replace(PUNCTUATION, "")]
    if canonicalize != "none":
        steps += [replace(FINAL_SIGMA, "\N{GREEK SMALL LETTER FINAL SIGMA}")]
        steps += [normalizers.Lowercase()]
    if canonicalize == "lower_no_punctuation":
        steps += [replace(WHITESPACE, " "), replace("^ | $", "")]
    if spec.precompiled_charsmap:
        # That library looks up what people see as one character, and drops what follows its first match
        # there: the line feed, and accents.
        steps += [normalizers.Replace("\r\n", "\n\n")]
        steps += [replace(f"(?<=[{_changed(tokenizer)}])(?={ACCENT})", BREAK)]
        steps += [normalizers.Precompiled(spec.precompiled_charsmap)]
        steps += [normalizers.Replace(BREAK, "")]
    if spec.remove_extra_whitespaces:
        steps += [replace(" {2,}", " "), replace(f"^ | ?{SPACE}+$| $", "")]
    if spec.add_dummy_prefix:
        steps += [normalizers.Prepend(SPACE)]
    return normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])


def _changed(tokenizer: SentencePieceTokenizer) -> str:
    """The characters that sentencepiece's table replaces, as ranges of a regular expression.

    Of the first plane: longer ones and an accent are looked up one by one anyway.
    """
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(tokenizer.model)
    ranges: list[list[int]] = []
    for code in (*range(0x80, 0xD800), *range(0xE000, 0x10000)):
        between = f"a{chr(code)}a"
        if between in processor.normalize(between):
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    # A table that changes nothing here must still make a sound expression.
    return "".join(f"\\x{{{first:x}}}-\\x{{{last:x}}}" for first, last in ranges) or "\\x{fff8}"
