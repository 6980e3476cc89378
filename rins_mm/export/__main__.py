"""Export the encoders of a run:  python -m rins_mm.export RUN --out DIR"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from data_pipelines.errors import run_command
from rins_mm.encoder import load_encoder
from rins_mm.export.native import write_native


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Write the encoders of a run as a folder that `rins_mm.load` reads."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder (its newest checkpoint), or one checkpoint's folder."""
    out: Path
    """Folder to write."""
    overwrite: bool = False
    """Replace the folder if it exists."""


def main(argv: list[str]) -> None:
    """Export and say what was written."""
    command = tyro.cli(ExportCommand, args=argv, prog="python -m rins_mm.export")
    encoder = load_encoder(command.run)
    write_native(encoder, command.out, overwrite=command.overwrite)
    size = sum(path.stat().st_size for path in command.out.iterdir())
    print(
        f"wrote {command.out} ({size / 1e6:.1f} MB): {encoder.name}, signature {encoder.signature}"
    )
    print(f'try: python -m rins_mm.search {command.out} --pictures FOLDER --query "a red apple"')


if __name__ == "__main__":
    run_command(main)
