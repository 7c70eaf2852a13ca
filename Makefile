# The verbs of the project; `make` alone lists them.  Each sets up .venv by itself when it must.
# Another Python: make PYTHON=python3.12 run

PYTHON ?= python3
PY := .venv/bin/python
READY := .venv/.ready
PEERS := build/peers/.ready
BROWSER := .venv/.browser
TESTS := .venv/.tests
DOCS := .venv/.docs
STEADY := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TUTORIAL_LIB_QUIET=1
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout 120 \
    --nbval-sanitize-with tests/nbval_sanitize.cfg
# What ships beside the data, in this order: later ones are made with earlier ones.
SHIPPED := classifier second_classifier unet labelled noisy_classifier weak distilled ways replay \
    walks memory networks yardsticks flow ncsn variance fine_bits shipped_bits
# As many workers as cores, and at most four, which take 2 GB each; one thread a worker, and a kernel
# in a browser: two threads wait for each other, and on a busy machine for minutes.
WORKERS := --numprocesses logical --maxprocesses 4
# A file is one piece of work, because the cells of a notebook need each other; tests/conftest.py says
# which files come first.
BY_FILE := --dist loadfile --no-loadscope-reorder

.PHONY: help run run-all lab notebooks test test-browser test-docs lint docs slides book figures site-serve editions bundle retrain bench bench-full bench-more clean

help:  ## list these verbs
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { sub("%", "NAME", $$1); printf "  make %-12s %s\n", $$1, $$2 }' Makefile

run: $(READY)  ## the main job: execute Part I; notebooks, HTML and denoising.gif go to build/
	$(PY) tools/execute.py run --part 1 --out build

run-all: $(READY)  ## the same with every notebook of the series
	$(PY) tools/execute.py run --out build

lab: $(READY)  ## open JupyterLab on your own copy of the notebooks, in work/
	$(PY) tools/execute.py lab

notebooks: $(TESTS)  ## execute the committed notebooks, refresh their outputs and the pages made of them
	$(PY) tools/execute.py refresh
	$(PY) tools/equations.py
	$(PY) tools/glossary.py
	$(PY) tools/one_page.py

test: $(TESTS)  ## check everything: style, the package, and each output of each notebook
	$(PY) -m ruff check
	$(PY) -m mypy
	$(STEADY) $(PY) -m pytest $(WORKERS) $(BY_FILE) $(NBVAL) tests notebooks

test-browser: $(BROWSER)  ## run every notebook in JupyterLab, in Chromium, and those with explorers under Voila
	OMP_NUM_THREADS=1 $(PY) -m pytest tests/browser $(WORKERS) --dist worksteal

test-docs: slides $(BROWSER)  ## check slides, book, and the site that `make docs` has built: links, pictures, access
	OMP_NUM_THREADS=1 $(PY) -m pytest tests/site $(WORKERS) --dist worksteal

lint: $(TESTS)  ## check style, formatting and types of code and notebooks
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

docs: $(DOCS)  ## build the site in build/site/ from what is stored; REPOSITORY=owner/name links to it
	$(PY) tools/website.py $(REPOSITORY)

slides: $(DOCS)  ## make a deck of each notebook, for a projector, in build/slides/
	$(PY) tools/slides.py

book: figures  ## print the whole course as one PDF, build/book/course.pdf
	$(PY) tools/book.py

figures: $(DOCS)  ## execute notebooks that have changed, for their figures as SVG and PNG, in build/figures/
	$(PY) tools/figures.py

site-serve: $(READY)  ## serve build/site/ to this machine, at http://127.0.0.1:8000/
	$(PY) tools/website.py --serve

editions: $(READY)  ## assemble folders for students, teachers and nbgrader, in build/editions/
	$(PY) tools/editions.py

bundle: $(READY)  ## put the course and its packages into build/bundle/, for rooms without internet
	$(PY) tools/bundle.py

retrain: $(TESTS)  ## train all shipped weights and records anew, from the full Fashion-MNIST (9 hours)
	@echo "On 2 CPU cores: 3 minutes for the classifier, 10 for the second one, 160 for the U-Net,"
	@echo "100 more for labels, 3 for a classifier of noisy images, about an hour for the student,"
	@echo "two for the rest.  What was interrupted goes on by \`make retrain-NAME\`."
	for name in $(SHIPPED); do $(PY) -m tutorial_lib.recipes $$name || exit 1; done
	$(PY) tests/benchmarks/gallery.py

retrain-%: $(READY)  ## one of them alone, such as make retrain-distilled; a name that is none lists all
	$(PY) -m tutorial_lib.recipes $*

bench: $(PEERS)  ## measure speed beside that of other packages (10 minutes, on an idle machine)
	$(PY) tests/benchmarks/compare.py speed
	$(PY) tools/benchmarks.py build/benchmarks/results.json

bench-full: $(PEERS)  ## measure quality after equal time of training, too (3 hours; it resumes)
	$(PY) tests/benchmarks/compare.py full
	$(PY) tools/benchmarks.py build/benchmarks/results.json

bench-more: $(PEERS)  ## measure what each ingredient brings to quality, too (another hour)
	$(PY) tests/benchmarks/compare.py more
	$(PY) tools/benchmarks.py build/benchmarks/results.json

clean:  ## remove build/ and caches; .venv/ and your copies in work/ stay
	rm -rf build dist tutorial_lib.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage htmlcov
	find tutorial_lib tests tools notebooks -name __pycache__ -type d -prune -exec rm -rf {} +

# denoising_diffusion_pytorch asks for torchvision but runs without it here, hence --no-deps.
$(PEERS): $(TESTS)
	$(PY) -m pip install --quiet --no-deps --target build/peers \
	    denoising_diffusion_pytorch==2.3.4 ema_pytorch==0.8.3
	@touch $@

$(BROWSER): $(READY)
	$(PY) -m pip install --quiet -c constraints.txt -e ".[tests,browser]" || { \
	    echo "This fetches Playwright and Voila, once, from the internet: no bundle has them."; \
	    exit 1; }
	@touch $@

$(DOCS): $(READY)
	$(PY) -m pip install --quiet -c constraints.txt -e ".[docs]" || { \
	    echo "This fetches Sphinx and its theme, once, from the internet: no bundle has them."; \
	    exit 1; }
	@touch $@

$(TESTS): $(READY)
	$(PY) -m pip install --quiet -c constraints.txt -e ".[tests,grading]"
	@touch $@

$(READY): pyproject.toml constraints.txt tools/make_venv.py
	@"$(PYTHON)" tools/make_venv.py
	@touch $@
