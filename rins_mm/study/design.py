"""A study as it is written down before it runs: arms, claims, margins, controls, seeds."""

import importlib
import importlib.util
import re
import runpy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from data_pipelines.errors import UserError
from rins_mm.config import TrainConfig
from rins_mm.models.signatures import expand
from rins_mm.study.statistics import ClaimKind

Role = Literal["confirmatory", "exploratory", "control"]
Match = Literal["flops", "samples", "layer_steps"]
Scale = Literal["cpu", "gpu"]
Tower = Literal["text", "image"]

SAFE_NAME = re.compile(r"[A-Za-z0-9_.+^-]+")
"""Names of arms are names of files."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train, with every seed."""

    name: str
    config: TrainConfig
    """Made from the base by replace; its length, seed, learning rate and folder are the study's business."""
    role: Role = "confirmatory"
    """confirmatory: claims are about it; exploratory: few seeds, no verdict; control: shows that the data can tell."""
    control: str = ""
    """The arm that its differences are taken from; empty: none."""
    match: Match | None = None
    """What it spends as much of as its control does; None: what the study matches."""
    dial: tuple[str, ...] = ()
    """More depths of the text tower to measure at the end, such as AAAAB beyond the trained one."""
    tuned_as: str = ""
    """The arm whose learning rate it takes, such as the same model at another length; empty: it has its own search."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A number that an arm is judged by."""

    task: str
    """A task of evaluation, such as compositional:SHARDS; `loss` for the one on the held-out batches."""
    metric: str = "loss"
    """Its metric, such as accuracy."""

    @property
    def title(self) -> str:
        """The endpoint in a few words."""
        return "loss on the held-out batches" if self.is_loss else f"{self.task} {self.metric}"

    @property
    def is_loss(self) -> bool:
        """Whether less is better."""
        return self.task == "loss"


HELD_OUT_LOSS = Endpoint(task="loss")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What is to be decided of an arm against its control, with its margin, by one endpoint."""

    name: str
    """The claim as a sentence."""
    arm: str
    control: str
    kind: ClaimKind
    """gain: the arm is better; no_gain: not by delta or more; no_regret: not worse by delta or more."""
    delta: float
    """The margin, in units of the endpoint: the least difference that would matter."""
    tower: Tower
    """Whose positive control it needs."""
    endpoint: Endpoint
    variant: str = ""
    """Depth of the arm's text tower at which it is measured; empty: the trained one."""


@dataclass(frozen=True, kw_only=True)
class PositiveControl:
    """An arm that must beat another, or the data cannot tell anything about this tower."""

    tower: Tower
    arm: str
    """An unshared deeper tower, at equal samples."""
    control: str


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A fixed set of batches: the same pictures and captions in the same batches for all arms and seeds."""

    shards: tuple[str, ...]
    batch_size: int = 256
    num_batches: int = 8
    seed: int = 0
    """Decides the order of the samples and the choice of captions."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The search for each arm's learning rate, by the loss on held-out batches of `val`."""

    learning_rates: tuple[float, ...]
    held_out: HeldOut
    share: float = 0.25
    """Length of a tuning run, as a share of the whole."""
    seed: int = 1000
    """Not one of the study's seeds."""


@dataclass(frozen=True, kw_only=True)
class ScalingLaw:
    """Arms of one kind at several budgets, fitted by eps(x) = beta x^-c + eps_inf over realised FLOPs."""

    name: str
    arms: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Everything that is decided before the first run."""

    name: str
    purpose: str
    """What it is to show, in a sentence or two."""
    arms: tuple[Arm, ...]
    claims: tuple[Claim, ...] = ()
    positive_controls: tuple[PositiveControl, ...] = ()
    tasks: tuple[str, ...] = ()
    """Tasks that every run is measured on at its end."""
    endpoints: tuple[Endpoint, ...] = (HELD_OUT_LOSS,)
    """What the report compares the arms by; the first is the primary one."""
    held_out: HeldOut
    seeds: int = 8
    exploratory_seeds: int = 2
    control_seeds: int = 4
    """Seeds of arms that show what the data can tell: their differences are large, or they show nothing."""
    first_seed: int = 0
    pilot_seeds: int = 3
    """Seeds of the pilot, which are none of the study's: they come after 2,000."""
    match: Match = "flops"
    caption_tokens: float
    """Mean length of a caption in tokens, by which budgets are fixed before a run; the data must agree."""
    tuning: Tuning | None = None
    scaling: tuple[ScalingLaw, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """What a reader must know of the data and of what is not claimed."""

    def seeds_of(self, arm: Arm) -> int:
        """How many seeds an arm is to have."""
        few = {"exploratory": self.exploratory_seeds, "control": self.control_seeds}
        return min(self.seeds, few.get(arm.role, self.seeds))

    def arm(self, name: str) -> Arm:
        """The arm of this name. Raises UserError."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise UserError(
            f"the study {self.name} has no arm {name!r}; it has {', '.join(a.name for a in self.arms)}"
        )


def trained_depth(config: TrainConfig) -> str:
    """The text tower's signature as evaluation names it: AAAB for A^3B."""
    return "".join(expand(config.text.recursion.signature))


def study_names() -> list[str]:
    """The studies of the package `configs`."""
    spec = importlib.util.find_spec("configs")
    folders = spec.submodule_search_locations if spec is not None else None
    return sorted(path.stem for folder in folders or [] for path in Path(folder).glob("study_*.py"))


def load_study(source: str, *, scale: Scale) -> StudyConfig:
    """A study by name or by path, checked. Raises UserError."""
    if source in study_names():
        names: Mapping[str, Any] = vars(importlib.import_module(f"configs.{source}"))
    elif Path(source).suffix == ".py" and Path(source).is_file():
        names = runpy.run_path(source)
    else:
        raise UserError(
            f"there is no study or file named {source!r}; studies are {', '.join(study_names())}"
        )
    function = names.get("study")
    made = function(scale=scale) if callable(function) else None
    if not isinstance(made, StudyConfig):
        raise UserError(
            f"{source!r} has no function study(scale) that returns a StudyConfig; "
            "see configs/study_text_rins.py for the form"
        )
    check(made)
    return made


def check(study: StudyConfig) -> None:
    """Refuse a study that could not be run, or not be judged: a UserError names what and the mend."""
    names = [arm.name for arm in study.arms]
    for name in [study.name, *names]:
        if not SAFE_NAME.fullmatch(name):
            raise UserError(f"the name {name!r} cannot be a file's; use letters, digits and _.+^-")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"the study {study.name} has two arms named {twice[0]!r}; rename one")
    for arm in study.arms:
        if arm.control and (other := study.arm(arm.control)).control:
            raise UserError(
                f"the control of {arm.name}, {other.name}, is matched to {other.control} itself, so that its "
                f"length is not its own; name {other.control}"
            )
        if arm.tuned_as and study.arm(arm.tuned_as).tuned_as:
            raise UserError(
                f"{arm.name} is tuned as {arm.tuned_as}, which has no search of its own; name one that has"
            )
        every = arm.config.log_every
        for setting in ("eval_every", "checkpoint_every"):
            if getattr(arm.config, setting) % every:
                raise UserError(
                    f"{arm.name}: log_every {every} does not divide {setting} "
                    f"{getattr(arm.config, setting)}, so that spending would be lost; choose one that does"
                )
    for claim in study.claims:
        for arm in (study.arm(claim.arm), study.arm(claim.control)):
            if arm.role != "confirmatory":
                raise UserError(
                    f"the role of {arm.name} is {arm.role}, and the claim {claim.name!r} wants a verdict: "
                    "make it confirmatory, so that it has all the seeds"
                )
        if claim.tower not in {control.tower for control in study.positive_controls}:
            raise UserError(
                f"the claim {claim.name!r} is about the {claim.tower} tower, which has no positive control; "
                "add one: without it nobody knows whether the data could show anything"
            )
        if not claim.delta > 0:
            raise UserError(
                f"the claim {claim.name!r} has delta {claim.delta}; it must be positive"
            )
        if claim.endpoint not in study.endpoints:
            raise UserError(
                f"the claim {claim.name!r} is decided by {claim.endpoint.title}, "
                "which is none of the study's endpoints; add it there"
            )
    for control in study.positive_controls:
        study.arm(control.arm), study.arm(control.control)
    for law in study.scaling:
        for name in law.arms:
            study.arm(name)
    for endpoint in study.endpoints:
        if not endpoint.is_loss and endpoint.task not in study.tasks:
            raise UserError(f"the endpoint {endpoint.title} needs its task among the study's tasks")
    if study.seeds < 2:
        raise UserError(f"seeds is {study.seeds}; differences over fewer than 2 have no interval")
