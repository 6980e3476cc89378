"""A search page on this machine:  python -m rins_mm.serve INDEX

It needs no network, and only browsers of this machine reach it unless more is asked for.
"""

import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from data_pipelines.errors import UserError, run_command
from data_pipelines.words import printable
from eval.encoder import DualEncoder
from rins_mm.distributed import local_device
from rins_mm.evaluated_model import open_model
from rins_mm.index.accelerate import KINDS, open_accelerator
from rins_mm.index.search import Index, open_index, require_model
from rins_mm.models.signatures import expand
from rins_mm.serve.addresses import is_loopback
from rins_mm.serve.service import SearchService


@dataclass(frozen=True, kw_only=True)
class ServeCommand:
    """Search an index of pictures in the browser, by words and by pictures."""

    folder: Annotated[Path, tyro.conf.Positional]
    """An index that python -m rins_mm.index build has written."""
    model: str = ""
    """The model that the index was built with: a run, a checkpoint, an export, or another's by its name.
    Empty: from where it lay then; where it is gone, pictures still find each other."""
    text_signatures: tuple[str, ...] = ()
    """Depths of the text tower that the slider offers, shallow first; none: all that it was trained at."""
    pictures: tuple[str, ...] = ()
    """Where the pictures are now, one for each source of the index; none: where they were."""
    accelerator: KINDS = "exact"
    """exact: compare with every picture. faiss, faiss-pq, usearch: with the likely ones; built from the
    vectors on first use. With a filter the search is always exact."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8000
    """Port to listen on; 0: any that is free."""
    beyond_this_machine: bool = False
    """Allow a host that others can reach. There is no password and no encryption."""
    names: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Another name that browsers may know this server by, such as pictures.lan; may be given several
    times."""
    deadline_seconds: float = 20.0
    """How long one answer may take."""
    num_threads: int = 0
    """CPU threads; 0: as many as torch chooses."""


def main(argv: list[str]) -> None:
    """Open the index and its model, listen, answer until interrupted."""
    command = tyro.cli(ServeCommand, args=argv, prog="python -m rins_mm.serve")
    check(command)
    try:
        # An extra: only those who serve need it.
        from rins_mm.serve.listening import serve
    except ImportError as error:
        raise UserError(f"the page needs {error.name}; pip install 'rins_mm[serve]'") from error
    if command.num_threads:
        torch.set_num_threads(command.num_threads)
    # First of all, because a port that is taken shows at once and the model takes seconds.
    with listening_socket(command.host, command.port) as listener:
        service = open_service(command)
        port = listener.getsockname()[1]
        if not is_loopback(command.host):
            print(
                f"warning: everybody who can reach {command.host}:{port} can search and see these "
                "pictures; there is no password and no encryption",
                file=sys.stderr,
            )
        shown = f"[{command.host}]" if ":" in command.host else command.host
        print(f"search page: http://{shown}:{port}/   (Ctrl-C ends it)", flush=True)
        serve(
            service,
            listener,
            host=command.host,
            names=command.names,
            deadline_seconds=command.deadline_seconds,
        )


def check(command: ServeCommand) -> None:
    """Refuse what cannot be served, before anything is read."""
    if not is_loopback(command.host) and not command.beyond_this_machine:
        raise UserError(
            f"others can reach a server on {command.host}, and there is no password; keep to "
            "127.0.0.1, or add --beyond-this-machine if that is meant"
        )
    if not 0 <= command.port <= 65_535:
        raise UserError(f"port is {command.port}; it must be from 0 to 65535")
    if not 0.1 <= command.deadline_seconds <= 3_600:
        raise UserError(
            f"deadline_seconds is {command.deadline_seconds}; it must be from 0.1 to 3600"
        )
    if command.num_threads < 0:
        raise UserError(f"num_threads is {command.num_threads}; it must be at least 0")


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises UserError for an address or a port that cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host} port {port} ({error.strerror}); give another --port, or 0 for "
            "any that is free"
        ) from error


def open_service(command: ServeCommand) -> SearchService:
    """The index with its model, warm. Raises UserError where they do not belong together."""
    index = open_index(command.folder, pictures=command.pictures)
    accelerator = None
    if command.accelerator != "exact":
        accelerator = open_accelerator(index, command.accelerator)
    usual = index.facts.model.text_signature
    encoder, depths = open_model_of(index, command)
    service = SearchService(
        index,
        encoder,
        depths=depths,
        usual_depth=same_depth(depths, usual),
        deadline_seconds=command.deadline_seconds,
        accelerator=accelerator,
    )
    service.warm_up()
    return service


def open_model_of(index: Index, command: ServeCommand) -> tuple[DualEncoder | None, list[str]]:
    """The model that the index was built with and the depths of its text tower; none where it is gone."""
    recorded = index.facts.model
    # A folder from elsewhere may name any path. Only folders are looked for unasked, and those of
    # this project hold nothing but tensors and JSON.
    if not command.model and not os.path.isdir(recorded.path):
        print(
            f"warning: the model {printable(recorded.name)} is not where it was when the index was "
            "built; pictures find each other, words find nothing; name it with --model",
            file=sys.stderr,
        )
        return None, []
    model = open_model(
        command.model or recorded.path,
        text_signatures=command.text_signatures,
        image_signatures=(),
        device=str(local_device()),
    )
    require_model(index, model.encoder)
    return model.encoder, model.text_variants


def same_depth(depths: Sequence[str], usual: str) -> str:
    """The one of the depths that runs what the usual one runs; the deepest where none does."""
    if usual in depths or not depths:
        return usual
    return next((one for one in depths if expand(one) == expand(usual)), depths[-1])


if __name__ == "__main__":
    run_command(main)
