"""A reader with planted faults: what the search must find."""

import os
from pathlib import Path
from random import Random

from byte_mutations import mutated_bytes
from target import Files, Target

from data_pipelines.errors import UserError


def mutate(files: Files, draws: Random, other: Files) -> Files:
    """Any change of the bytes."""
    return {"input": mutated_bytes(files["input"], draws, other["input"])[:100]}


def attempt(files: Files, folder: Path) -> str:
    """Read a letter and a number; some of them do what none may."""
    data = files["input"]
    if not data[:1].isalpha():
        raise UserError("it does not begin with a letter")
    match data[0] % 6:
        case 0:
            {}[data[:1]]
        case 1:
            (folder.parent / "outside").write_text("x")
        case 2 if len(data) > 30:
            os.abort()
    return "read"


TARGET = Target(
    name="planted",
    what="three faults, one of which ends the process",
    attempt=attempt,
    seeds=lambda: [{"input": data} for data in (b"h1", b"5", b"q12")],
    mutate=mutate,
    documented=(UserError,),
)
