"""python -m rins_mm.serve: what it refuses, and that it serves."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from small_index import write_small_index

from data_pipelines.errors import UserError
from rins_mm.export.native import write_native
from rins_mm.index.search import Index
from rins_mm.serve.__main__ import (
    ServeCommand,
    check,
    listening_socket,
    main,
    open_service,
    same_depth,
)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"host": "0.0.0.0"}, r"others can reach a server on 0\.0\.0\.0.*--beyond-this-machine"),
        ({"host": "pictures.lan"}, "others can reach"), ({"port": 70_000}, "port is 70000"),
        ({"deadline_seconds": 0.0}, r"deadline_seconds is 0\.0"), ({"num_threads": -1}, "num_threads is -1"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_refused_first_of_all(settings: dict, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        check(ServeCommand(folder=Path("nowhere"), **settings))
    check(ServeCommand(folder=Path("nowhere"), host="0.0.0.0", beyond_this_machine=True))
    check(ServeCommand(folder=Path("nowhere"), host="::1"))


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=f"cannot listen on 127.0.0.1 port {port}.*another --port"
        ):
            main([str(tmp_path), "--port", str(port)])
    with listening_socket("127.0.0.1", 0) as free:
        assert free.getsockname()[0] == "127.0.0.1"


def test_the_model_must_be_the_one_of_the_index(index: Index, tmp_path: Path, capsys) -> None:
    write_native(tiny.encoder(num_heads=4), tmp_path / "other")
    with pytest.raises(UserError, match="was built with the model tiny@0"):
        open_service(ServeCommand(folder=index.folder, model=str(tmp_path / "other")))
    assert open_service(ServeCommand(folder=index.folder)).about()["depths"] == []
    assert "words find nothing; name it with --model" in capsys.readouterr().err


def test_the_usual_depth_is_found_under_any_spelling() -> None:
    assert same_depth(["AB", "AAB", "AAAB"], "A^3B") == "AAAB"
    assert same_depth(["AB", "A^2B"], "AAB") == "A^2B"
    assert same_depth(["default"], "default") == "default"
    assert same_depth(["AB", "AAB"], "A^3B") == "AAB"


def test_the_command_serves_until_it_is_interrupted(tmp_path: Path, repository: Path) -> None:
    encoder = tiny.encoder()
    write_native(encoder, tmp_path / "model")
    folder = write_small_index(
        tmp_path / "index",
        tmp_path / "pictures",
        {"one.png": (tiny.pixels(1), "one", ""), "two.png": (tiny.pixels(2), "two", "")},
        encoder.as_dual_encoder(),
        image_signature="AB",
        text_signature="AAAB",
        model_path=str(tmp_path / "model"),
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "rins_mm.serve", folder, "--port", "0"],
        cwd=repository, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # Whoever runs the tests in the background may have told all children to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", line)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request(
            "POST",
            "/api/search",
            b'{"words": "one", "depth": "AAB"}',
            {"Content-Type": "application/json"},
        )
        answer = connection.getresponse()
        assert answer.status == 200 and b'"two.png"' in answer.read()
        connection.close()
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=30)
        assert process.returncode == 130 and complaints == ""
    finally:
        process.kill()
        process.communicate()
