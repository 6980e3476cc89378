# make .venv   set up            make demo   prepare, train, evaluate, export, search
# make test    set up and test   make check  format, lint, types, imports
PYTHON ?= python3
CONSTRAINTS := .ci/constraints.txt
export RINS_MM_CACHE ?= $(CURDIR)/.cache
# One thread a process: on a CPU the ranks are the parallelism.
export OMP_NUM_THREADS ?= 1

# A rank for each GPU that torch sees; two where there is none.
RANKS ?= $$(.venv/bin/python -c "import torch; print(torch.cuda.device_count() or 2)")
PYTEST := .venv/bin/python -m pytest -n 2 --dist worksteal

.PHONY: .venv demo test test-fast test-long check format clean

.venv: .venv/.core

.venv/.core: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -c $(CONSTRAINTS) -e .
	touch $@

.venv/.test: .venv/.core
	.venv/bin/pip install -c $(CONSTRAINTS) -e '.[test]'
	touch $@

RUN := runs/emoji
EXPORT := exports/emoji

demo: .venv/.core
	.venv/bin/python -m data_pipelines.index emoji:train emoji:val emoji:test emoji:style
	.venv/bin/torchrun --nproc-per-node $(RANKS) -m rins_mm.train emoji --run-dir $(RUN) --resume
	.venv/bin/python -m rins_mm.export $(RUN) --out $(EXPORT) --overwrite
	.venv/bin/python -m rins_mm.search $(EXPORT) --pictures emoji:style --top-k 3 --html $(RUN)/search.html --overwrite \
		--query "a red apple" --query "person biking" --query "sad face"
	.venv/bin/python -m rins_mm.evaluate $(RUN) --tasks zero_shot:emoji-style retrieval:emoji-test --out $(RUN)/eval.json --overwrite
	.venv/bin/python -m rins_mm.report $(RUN) --out $(RUN)/report.html --overwrite
	@echo
	@echo "report   $(CURDIR)/$(RUN)/report.html"
	@echo "search   $(CURDIR)/$(RUN)/search.html"
	@echo "numbers  $(CURDIR)/$(RUN)/eval.json"
	@echo "export   $(CURDIR)/$(EXPORT)   (in Python: rins_mm.load(\"$(EXPORT)\"))"
	@echo "next     .venv/bin/python -m rins_mm.search $(EXPORT) --pictures YOUR_FOLDER --query \"your words\""

test: .venv/.test
	$(PYTEST) -m "not long"

test-fast: .venv/.test
	$(PYTEST) -m "not long and not slow"

# RINS_MM_HOSTILE_SHARE=1 tries all hostile inputs with every command, in an hour and a half or more of one core.
test-long: .venv/.test
	$(PYTEST) -m long

# Twenty kills of torchrun at two and at three ranks, as a table; RINS_MM_KILL_SEED=N repeats one.
.PHONY: kill-test
kill-test: .venv/.test
	RINS_MM_KILLS=20 .venv/bin/python -m pytest tests/end_to_end/test_random_kills.py -m long -s -q

# A run of two ranks, watched for so long: what it holds must not grow, and nothing may be left of it.
soak: MINUTES ?= 30
.PHONY: soak
soak: .venv/.core
	.venv/bin/python benchmarks/soak.py --minutes $(MINUTES) --overwrite

# Every reader of what comes from outside, for so many minutes of a processor each; FUZZ_SEED=N repeats a search.
fuzz: MINUTES ?= 10
fuzz: FUZZ_SEED ?= $$(date +%Y%m%d)
.PHONY: fuzz
fuzz: .venv/.test
	.venv/bin/python tests/fuzz all --minutes $(MINUTES) --seed $(FUZZ_SEED) --out fuzz.json --findings fuzz-findings

check: .venv/.test
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

format: .venv/.test
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

clean:
	rm -rf .venv .cache *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# The README's table of results: three runs of the demo's recipe.
.PHONY: emoji-seeds
emoji-seeds: .venv/.core
	.venv/bin/python benchmarks/emoji_seeds.py --seeds 0 1 2
	.venv/bin/python docs/tables.py
