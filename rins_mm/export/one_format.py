"""The folder of one format: what its library reads, and beside it card, parity and manifest."""

from pathlib import Path

from data_pipelines.errors import UserError
from rins_mm.checkpoint import write_manifest
from rins_mm.export.card import write_card
from rins_mm.export.formats import FORMATS, ExportJob
from rins_mm.export.parity import Parity, write_parity


def write_format(name: str, job: ExportJob, parity: Parity, folder: Path) -> None:
    """Fill an empty folder. Raises UserError where the format cannot express the encoder."""
    write_model(name, job, folder)
    complete(name, job, parity, folder)


def write_model(name: str, job: ExportJob, folder: Path) -> None:
    """What the format's library reads. Raises UserError where the format cannot express the encoder."""
    try:
        FORMATS[name].write(job, folder)
    except ImportError as error:
        raise UserError(
            f"the format {name} needs a package that is not installed ({error}); "
            f"install it with: pip install 'rins_mm[{FORMATS[name].extra or 'export'}]'"
        ) from error


def complete(name: str, job: ExportJob, parity: Parity, folder: Path) -> None:
    """Lay card, parity and manifest beside the model; after that nothing may change."""
    write_parity(parity, name, folder)
    write_card(name, job, folder)
    write_manifest(
        folder,
        {
            "format": name,
            "fingerprint": job.encoder.fingerprint,
            "text_signature": job.text_signature,
            "image_signature": job.encoder.image_signature,
            "dtype": job.dtype,
        },
    )
