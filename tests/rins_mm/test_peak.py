"""The ceiling of a device, known or measured."""

import time

import pytest
import torch

from rins_mm.flops import PEAK_FLOPS
from rins_mm.peak import describe_peak, known_gpu, measured_peak


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H100 NVL", None),
        ("Tesla T4", None),
    ],
)
def test_a_gpu_is_known_by_its_name_unless_it_is_a_slower_form(name, known):
    assert known_gpu(name) == known
    assert known is None or known in PEAK_FLOPS


def test_the_peak_of_a_cpu_is_measured_in_well_under_a_second():
    begin = time.process_time()
    peak = describe_peak(torch.device("cpu"), "fp32")
    assert time.process_time() - begin < 1
    assert peak["source"].startswith("measured: fp32 products of ")
    assert "1 threads" in peak["source"]
    # One core of this century, and less than a thousand of them.
    assert 1e8 < peak["flops_per_second"] < 1e15


def test_no_product_is_much_faster_than_the_peak():
    peak, side = measured_peak(torch.device("cpu"), torch.float32)
    matrix = torch.full((side, side), 1 / side)
    begin = time.process_time()
    matrix @ matrix
    assert 2 * side**3 / (time.process_time() - begin) < 2 * peak
