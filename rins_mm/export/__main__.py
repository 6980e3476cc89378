"""Export the encoders of a run:  python -m rins_mm.export RUN --out DIR  (and: verify DIR)"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from data_pipelines.errors import UserError, run_command
from data_pipelines.words import say
from eval.report import read_results
from rins_mm.encoder import load_encoder
from rins_mm.export.formats import FORMATS, Dtype, ExportJob
from rins_mm.export.one_format import complete, write_model
from rins_mm.export.parity import measure
from rins_mm.export.unrolled import growth
from rins_mm.export.verify import BATCH_SIZES, verify_folder
from rins_mm.export.whole_folder import export_folders, new_folder
from rins_mm.models.signatures import expand
from rins_mm.recorded_config import read_config


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Write the encoders of a run as folders that other programs read, and verify each of them."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder (its newest checkpoint), one checkpoint's folder, or an export of the format native."""
    out: Path
    """Folder to write; with several formats it holds a folder for each."""
    formats: str = "native"
    """Names with commas between: native, hf, open_clip, sentence_transformers, onnx, onnx_int8, pt2, timm; native
    is what rins_mm.load reads."""
    int8: bool = False
    """Write onnx_int8 too: onnx with weights in eight bits, for serving on a CPU."""
    text_signature: str | None = None
    """Depth of the text tower, such as AAAB, at which vectors are compared and into which formats without
    recursion are unrolled; None: the trained one. native keeps all depths."""
    dtype: Dtype = "fp32"
    """Form of the numbers in which weights are stored."""
    evaluation: Path | None = None
    """The eval.json whose numbers the model card shows; None: that in the run's folder, if there is one."""
    license: str = ""
    """Licence of the weights, such as apache-2.0, for the model card."""
    verify: bool = True
    """Read each folder in a process of its own and compare vectors; what differs is not exported."""
    overwrite: bool = False
    """Replace the folder if it exists."""


@dataclass(frozen=True, kw_only=True)
class VerifyCommand:
    """Compare what an exported folder gives to what its encoder gave when it was exported."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A folder that export has written, of one format or of several."""
    batch_sizes: tuple[int, ...] = BATCH_SIZES
    """Items at once. The greatest size is used for everything, the others for 32 items, or see --all-batches."""
    all_batches: bool = False
    """Everything at every batch size."""
    run_programs: bool = False
    """Also read formats whose files can run code (pt2): only for folders of people whom you trust."""


def main(argv: list[str]) -> None:
    """Export, or verify."""
    if argv[:1] == ["verify"]:
        verify(tyro.cli(VerifyCommand, args=argv[1:], prog="python -m rins_mm.export verify"))
    else:
        export(tyro.cli(ExportCommand, args=argv, prog="python -m rins_mm.export"))


def export(command: ExportCommand) -> None:
    """Write and verify every format, and say what was written. All are there in the end, or none."""
    asked = [*command.formats.split(","), *(["onnx_int8"] if command.int8 else [])]
    names = list(dict.fromkeys(asked))
    if unknown := [name for name in names if name not in FORMATS]:
        raise UserError(f"there is no format {unknown[0]!r}; give some of {','.join(FORMATS)}")
    job = _job(command)
    with new_folder(command.out, overwrite=command.overwrite) as out:
        # First, because a refusal takes no time.
        for name in names:
            folder = _folder(out, name, names)
            folder.mkdir(exist_ok=True)
            write_model(name, job, folder)
        print("encoding golden captions and pictures", file=sys.stderr)
        parity = measure(job)
        for name in names:
            folder = _folder(out, name, names)
            complete(name, job, parity, folder)
            if command.verify:
                print(f"verifying {name} in {FORMATS[name].library}", file=sys.stderr)
                # What this process has just written is nobody else's.
                for line in verify_folder(folder, run_programs=True):
                    say(line)
    for name in names:
        folder = _folder(command.out, name, names)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        say(
            f"wrote {folder} ({size / 1e6:.1f} MB, {name}): "
            f"{job.encoder.name}, signature {job.text_signature}"
        )
        if not FORMATS[name].expresses_recursion:
            print(growth(job, FORMATS[name].towers) or "unrolled: nothing, no group runs twice")
    if "native" in names:
        folder = _folder(command.out, "native", names)
        say(f'try: python -m rins_mm.search {folder} --pictures FOLDER --query "a red apple"')


def verify(command: VerifyCommand) -> None:
    """Verify each format in the folder and print what was compared. UserError: something differs."""
    folders = export_folders(command.folder)
    if not folders:
        raise UserError(f"{command.folder} holds no export; name a folder that export has written")
    for folder in folders:
        lines = verify_folder(
            folder,
            batch_sizes=command.batch_sizes,
            all_batches=command.all_batches,
            run_programs=command.run_programs,
        )
        for line in lines:
            say(line)


def _folder(out: Path, name: str, names: list[str]) -> Path:
    """Where a format lies: one alone in `out` itself."""
    return out if len(names) == 1 else out / name


def _job(command: ExportCommand) -> ExportJob:
    encoder = load_encoder(command.run)
    signature = command.text_signature or encoder.signature
    encoder.model.text_tower.blocks.check(expand(signature))
    evaluation = command.evaluation or command.run / "eval.json"
    has_results = command.evaluation is not None or evaluation.is_file()
    return ExportJob(
        encoder=encoder,
        text_signature=signature,
        dtype=command.dtype,
        source=encoder.name,
        training=_training(command.run),
        evaluations=read_results(evaluation)[0] if has_results else (),
        license=command.license,
    )


def _training(run: Path) -> dict[str, str]:
    """How the run, or the run of a checkpoint, was trained; nothing is known of an export."""
    for folder in (run, run.resolve().parent.parent):
        if (folder / "config.json").is_file() and (folder / "checkpoints").is_dir():
            config = read_config(folder / "config.json")
            return {
                "shards": ", ".join(config.data.shards),
                "steps planned": f"{config.max_steps}, of {config.batch_size} pairs",
                "precision": config.precision,
                "optimizer": f"{config.optimizer.name}, peak learning rate "
                f"{config.optimizer.peak_learning_rate:g}, {config.schedule.shape}",
                "seed": str(config.seed),
            }
    return {}


if __name__ == "__main__":
    run_command(main)
