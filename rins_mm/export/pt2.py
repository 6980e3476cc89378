"""Both encoders as programs of torch.export, image.pt2 and text.pt2, which torch alone loads and runs.

The file format has one pickle in it, the example inputs; they are left out. Weights are plain bytes, each once.
"""

import json
import zipfile
from pathlib import Path

import torch

from data_pipelines.errors import UserError
from rins_mm.export.feeding import write_feeding
from rins_mm.export.graphs import StoredAs, graphs_of, trace
from rins_mm.export.job import ExportJob, Format

SNIPPET = """import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

folder = Path("FOLDER")
settings = json.loads((folder / "pt2.json").read_text())
image_program = torch.export.load(folder / "image.pt2").module()
size, mean, std = (settings["image"][name] for name in ("size", "mean", "std"))
levels = torch.from_numpy(np.array(picture))[None].permute(0, 3, 1, 2)
square = torch.nn.functional.interpolate(levels, (size, size), mode="bicubic", antialias=True)
mean, std = (torch.tensor(each)[:, None, None] for each in (mean, std))
pixels = (square / 255 - mean) / std

text_program = torch.export.load(folder / "text.pt2").module()
rows = Tokenizer.from_file(str(folder / "fast_tokenizer.json")).encode_batch(captions)
inputs = [torch.tensor([row.ids for row in rows])]
if settings["text"]["mask"]:
    inputs.append(torch.tensor([row.attention_mask for row in rows]))
with torch.no_grad():
    image_vectors = image_program(pixels)
    text_vectors = text_program(*inputs)"""


def write_pt2(job: ExportJob, folder: Path) -> None:
    """Write image.pt2, text.pt2, pt2.json and the tokenizer. UserError: a tower cannot be traced."""
    graphs = graphs_of(job.encoder, job.text_signature)
    for name, graph in graphs.items():
        stored = graph if job.dtype == "fp32" else StoredAs(graph, job.torch_dtype)
        program = trace(stored, name)
        # They would be pickled.
        program.example_inputs = None
        path = folder / f"{name}.pt2"
        torch.export.save(program, path)
        _refuse_pickles(path)
    write_feeding(job, folder, "pt2.json")


def pickles_in(path: Path) -> list[str]:
    """Members of a .pt2 file that its reader would unpickle."""
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.file_size]
        found = [member.filename for member in members if "/sample_inputs/" in member.filename]
        for member in members:
            if member.filename.endswith("_config.json"):
                described = json.loads(archive.read(member))["config"]
                found += [
                    f"{member.filename}: {n}" for n, w in described.items() if w["use_pickle"]
                ]
    return found


def _refuse_pickles(path: Path) -> None:
    if found := pickles_in(path):
        raise UserError(
            f"this torch {torch.__version__} puts pickles into {path.name} ({', '.join(found)}), and "
            "exports hold none; export the format onnx or native"
        )


PT2 = Format(
    write=write_pt2,
    library="torch",
    snippet=SNIPPET,
    extra="export",
    expresses_recursion=True,
    runs_what_it_holds=True,
)
