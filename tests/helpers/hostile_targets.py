"""Every command of this project, and every public loader, with what they take."""

# ruff: noqa: E501  (a command stands on one line)

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Target:
    """A command line; `{thing}` stands for the path of a thing, `{out}` for a path to write."""

    module: str
    words: tuple[str, ...]
    label: str = ""
    """What tells it from others of its command."""
    writes: tuple[str, ...] = ()
    """Things that it changes, because that is its task."""
    asks: bool = False
    """It reads the data that a recorded configuration names, also over HTTP."""
    is_slow: bool = False
    """A trial that is not refused takes a second or more."""
    refuses_sound: str = ""
    """Why it refuses the sound thing, if it does: then the way to that refusal is what is tried."""

    @property
    def name(self) -> str:
        """As it is called in the table."""
        return f"{self.module} {self.label}".strip()

    def things(self) -> list[str]:
        """What it takes, each once."""
        named = [part.partition("}")[0] for word in self.words for part in word.split("{")[1:]]
        return [thing for thing in dict.fromkeys(named) if thing not in ("out", "world")]


def target(line: str, label: str = "", **more: object) -> Target:
    """A target from its command line."""
    module, *words = line.split()
    return Target(module=module, words=tuple(words), label=label, **more)  # type: ignore[arg-type]


DATA = [
    target("data_pipelines.index {shard}"),
    target("data_pipelines.keys {shard} --batch-size 4"),
    target("data_pipelines.keys --run {config}", "--run", asks=True),
    target("data_pipelines.lint {shard} --out {out}/lint"),
    target("data_pipelines.lint {world}/shard/a.tar --deny-lists {deny} --out {out}/lint", "--deny-lists"),
    target("data_pipelines.show {shard} --html {out}/show.html"),
    target("data_pipelines.stats {shard} --html {out}/stats.html"),
    target("data_pipelines.stats {world}/shard/a.tar --tokenizer {tokenizer}", "--tokenizer FOLDER"),
    target("data_pipelines.stats {world}/shard/a.tar --tokenizer {tokenizer_model}", "--tokenizer FILE"),
    target("data_pipelines.verify {shard}"),
    target("data_pipelines.subset {shard} --uids {world}/uids.txt --out {out}/deny.jsonl", "shards", refuses_sound="there is no .*parquet"),
    target("data_pipelines.subset {table_shard} --uids {world}/uids.txt --out {out}/deny.jsonl", "tables"),
    target("data_pipelines.subset {world}/table_shard/a.tar --uids {uids_text} --out {out}/d", "--uids .txt"),
    target("data_pipelines.subset {world}/table_shard/a.tar --uids {uids} --out {out}/d", "--uids .npy"),
    target("data_pipelines.prepare.train_tokenizer {shard} --out {out}/t.model --vocab-size 40"),
    target("data_pipelines.prepare.from_folder {classes} --out {out}/shards --workers 0", "classes"),
    target("data_pipelines.prepare.from_folder {pictures} --captions {captions_jsonl} --out {out}/s --workers 0", ".jsonl"),
    target("data_pipelines.prepare.from_folder {world}/pictures --captions {captions_csv} --out {out}/s --workers 0", ".csv"),
    target("data_pipelines.prepare.from_folder {world}/pictures --captions {captions_parquet} --out {out}/s --workers 0", ".parquet"),
    target("data_pipelines.prepare.scenes {out}/scenes --num-samples 8 --num-kinds 8 --cut-outs {cut_outs} --workers 0"),
    target("data_pipelines.prepare.emoji --out {out}/pack --packages {packages}", refuses_sound="holds neither"),
]  # fmt: skip
"""Of the data engine."""

MODELS = [
    target("rins_mm.train {config} --run-dir {out}/run", "CONFIG", asks=True, is_slow=True),
    target("rins_mm.train {world}/config.json --run-dir {out}/run --data.shards {shard}", "--data.shards", is_slow=True),
    target("rins_mm.train {world}/config.json --run-dir {out}/run --tokenizer.model-file {tokenizer_model} --tokenizer.vocab-size 45", "--tokenizer", is_slow=True),
    target("rins_mm.train {world}/config.json --run-dir {out}/run --init.image timm:test_vit:{weights}", "--init .safetensors", is_slow=True),
    target("rins_mm.train {world}/config.json --run-dir {out}/run --init.image timm:test_vit:{arrays}", "--init .npz", is_slow=True),
    target("rins_mm.train {world}/config.json --run-dir {out}/run --init.image timm:test_vit:{torch_file}", "--init .pt", is_slow=True),
    target("rins_mm.train {world}/config.json --run-dir {out}/run --init.image hf:{hf} --init.no-strict --image.gelu tanh --image.patch-size 16", "--init hf:", is_slow=True),
    target("rins_mm.train {world}/config.json --run-dir {out}/run --init.image open_clip:local-dir:{open_clip_timm} --init.no-strict", "--init open_clip:", is_slow=True),
    target("rins_mm.train {world}/config.json --run-dir {out}/run --init.model {native}", "--init EXPORT", is_slow=True),
    target("rins_mm.train {run} --resume --max-steps 3", "--resume", writes=("run",), asks=True, is_slow=True),
    target("rins_mm.selfcheck {config} --micro-batch-size 0", asks=True, refuses_sound="micro_batch_size is 0"),
    target("rins_mm.evaluate {run} --out {out}/eval.json --html {out}/eval.html", "RUN", is_slow=True),
    target("rins_mm.evaluate {native} --tasks retrieval:{shard} --out {out}/eval.json --html {out}/eval.html", "EXPORT", is_slow=True),
    target("rins_mm.evaluate hf:{hf} --tasks retrieval:{world}/shard/a.tar --out {out}/eval.json", "hf:", is_slow=True),
    target("rins_mm.evaluate open_clip:local-dir:{open_clip} --tasks retrieval:{world}/shard/a.tar --out {out}/eval.json", "open_clip:", is_slow=True),
    target("rins_mm.evaluate sentence_transformers:{st} --tasks retrieval:{world}/shard/a.tar --out {out}/eval.json", "sentence_transformers:", is_slow=True),
    target("rins_mm.evaluate onnx:{onnx} --tasks retrieval:{world}/shard/a.tar --out {out}/eval.json", "onnx:", is_slow=True),
    target("rins_mm.evaluate {world}/native --tasks wds:{wds} --out {out}/eval.json --html {out}/e.html", "wds:", is_slow=True),
    target("rins_mm.evaluate {world}/native --tasks wds:{wds_retrieval} --out {out}/eval.json", "wds: retrieval", is_slow=True),
    target("rins_mm.evaluate {world}/native --tasks zero_shot:folders:{classes} --out {out}/eval.json --html {out}/e.html", "folders:", is_slow=True),
    target("rins_mm.evaluate {world}/native --tasks retrieval:karpathy:{karpathy} --data {world}/pictures --out {out}/eval.json", "karpathy:", is_slow=True),
    target("rins_mm.report {run} --out {out}/report.html"),
    target("rins_mm.search {run} --pictures {world}/pictures --html {out}/s.html --query apple", "RUN", is_slow=True),
    target("rins_mm.search {native} --pictures {pictures} --html {out}/s.html --query apple", "EXPORT", is_slow=True),
    target("rins_mm.search {world}/native --pictures {shard} --html {out}/s.html --query apple", "SHARDS", is_slow=True),
    target("rins_mm.export {run} --out {out}/export --no-verify", is_slow=True),
    target("rins_mm.export verify {native} --batch-sizes 4", "verify native", is_slow=True),
    target("rins_mm.export verify {export_pt2} --batch-sizes 4", "verify pt2", is_slow=True, refuses_sound="give --run-programs"),
    target("rins_mm.export verify {export_hf} --batch-sizes 4", "verify hf", is_slow=True),
    target("rins_mm.index build {native} --pictures {pictures} --out {out}/index", "build", is_slow=True),
    target("rins_mm.index build {world}/native --pictures {shard} --out {out}/index", "build SHARDS", is_slow=True),
    target("rins_mm.index add {index} --pictures {classes}", "add", writes=("index",)),
    target("rins_mm.index remove {index} --numbers 1", "remove", writes=("index",)),
    target("rins_mm.index verify {index} --with-pictures", "verify"),
    target("rins_mm.index search {index} --query apple --html {out}/s.html", "search", is_slow=True),
    target("rins_mm.index duplicates {index} --json {out}/d.json", "duplicates"),
    target("rins_mm.study {world}/small_study.py --phase report --records {records} --runs {out}/runs", writes=("records",)),
]  # fmt: skip
"""Of models."""

LOADERS = [
    target("hostile_loaders load {native}", "rins_mm.load of an export"),
    target("hostile_loaders load {run}", "rins_mm.load of a run"),
    target("hostile_loaders weights {weights}", "read_weights .safetensors"),
    target("hostile_loaders weights {arrays}", "read_weights .npz"),
    target("hostile_loaders weights {torch_file}", "read_weights .pt", is_slow=True),
    target("hostile_loaders big_vision {arrays}", "big_vision:"),
    target("hostile_loaders hf {hf}", "initial weights hf:"),
    target("hostile_loaders open_clip {open_clip_timm}", "initial weights open_clip:"),
    target("hostile_loaders encode {world}/native {pictures}", "encode_images of paths"),
    target("hostile_loaders tokenizer {tokenizer}", "load_tokenizer"),
    target("hostile_loaders index {index}", "open_index"),
    target("hostile_loaders serve {index}", "what rins_mm.serve opens", is_slow=True),
    target("hostile_loaders results {results}", "read_results"),
]
"""What may be called from Python."""

TARGETS = [*DATA, *MODELS, *LOADERS]
