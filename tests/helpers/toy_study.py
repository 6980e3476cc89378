"""A study that runs in half a minute: two arms of the toy recipe, two seeds, twenty steps."""

import runpy
from dataclasses import replace
from pathlib import Path

from rins_mm.config import EvaluationConfig, TrainConfig
from rins_mm.models.draws import RecursionConfig
from rins_mm.study.design import (
    HELD_OUT_LOSS,
    Arm,
    Claim,
    Endpoint,
    HeldOut,
    PositiveControl,
    Scale,
    StudyConfig,
)

TASK = "retrieval:emoji-val"


def study(scale: Scale = "cpu") -> StudyConfig:
    """Recursive against plain; the positive control is a stand-in."""
    toy: TrainConfig = runpy.run_path(str(Path(__file__).with_name("toy.py")))["config"]()
    plain = replace(
        toy,
        log_every=5,
        eval_every=10,
        text=replace(toy.text, recursion=RecursionConfig()),
        evaluation=EvaluationConfig(tasks=(TASK,)),
    )
    rins = replace(plain, text=toy.text)
    recall = Endpoint(task=TASK, metric="text_retrieval_recall@10")
    return StudyConfig(
        name="toy",
        purpose="Shows that <everything> is written.",
        arms=(
            Arm(name="plain", config=plain),
            Arm(name="rins", config=rins, control="plain", dial=("AAAAB",)),
        ),
        claims=(
            Claim(
                name="Recursion helps",
                arm="rins",
                control="plain",
                kind="gain",
                delta=0.02,
                tower="text",
                endpoint=recall,
            ),
        ),
        positive_controls=(PositiveControl(tower="text", arm="rins", control="plain"),),
        tasks=(TASK,),
        endpoints=(recall, HELD_OUT_LOSS),
        held_out=HeldOut(shards=("emoji:test",), batch_size=64, num_batches=2),
        caption_tokens=9.2,
        seeds=2,
    )
