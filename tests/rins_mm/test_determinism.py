import os

import pytest
import torch

from data_pipelines.errors import UserError
from rins_mm.determinism import describe_determinism, make_deterministic, set_threads


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch):
    # Whatever a test sets, and whatever it is that the code sets, is put back.
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    cudnn.deterministic, cudnn.benchmark = before


def test_deterministic_mode_is_described_as_it_is_in_force() -> None:
    assert describe_determinism()["deterministic"] is False
    make_deterministic()
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    described = describe_determinism()
    assert described["deterministic"] is True
    assert described["cublas_workspace_config"] == ":4096:8"
    assert described["threads"] == torch.get_num_threads()
    assert described["interop_threads"] == torch.get_num_interop_threads()


def test_a_workspace_that_the_user_has_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    make_deterministic()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_a_workspace_that_is_not_deterministic_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    with pytest.raises(UserError, match=r"':0:0'.*CUBLAS_WORKSPACE_CONFIG=:4096:8"):
        make_deterministic()
    assert not torch.are_deterministic_algorithms_enabled()


def test_it_is_too_late_when_cuda_has_been_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(UserError, match="after CUDA has been started"):
        make_deterministic()
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    make_deterministic()


def test_threads_are_set_also_where_they_were_set_before() -> None:
    threads = torch.get_num_threads()
    try:
        set_threads(2)
        set_threads(1)
        assert (torch.get_num_threads(), torch.get_num_interop_threads()) == (1, 1)
    finally:
        torch.set_num_threads(threads)
