# One word a habit. Every target sets up what it needs: a virtual environment in .venv with the package built into it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(shell find native bindings wheels CMakeLists.txt -type f -not -name '*.py' -not -name '*.sh')
PACKAGE := $(shell find src -type f -not -name '*.so' -not -path '*/__pycache__/*') pyproject.toml README.md
CXX_FILES := $(filter %.cpp %.h %.inl,$(NATIVE)) $(wildcard examples/c/*.c examples/c/*.cpp live/*.cpp)

.PHONY: help demo test test-native test-sanitizers test-asan test-tsan test-python-sanitized fuzz fuzz-sanitized test-aarch64 test-wasm
.PHONY: test-windows build-macos test-alone test-torch test-c test-cuda test-c-sanitized test-ecosystem live test-live wheels test-wheels
.PHONY: bench-wheels lint format bench docs clean

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

# The build back end stands in the environment itself (no build isolation) and its objects in build/, so that a change is installed in
# seconds. torch comes first and by number: a bare `torch` pulls gigabytes of CUDA packages.
$(VENV)/tools: pyproject.toml
	@echo "torch and the tools, once: about a minute"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install -q --disable-pip-version-check "scikit-build-core>=0.10" "nanobind>=2.4" "cmake>=3.25" "ninja>=1.11"
	@touch $@

$(VENV)/installed: $(VENV)/tools $(NATIVE) $(PACKAGE)
	@echo "the engine, from source: one to two minutes the first time"
	$(install) ".[torch,plot,dev]"
	@touch $@

install = $(call pip,install)
pip = PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pip $(1) -q --disable-pip-version-check --no-build-isolation

demo: $(VENV)/installed  ## train nn.LSTM and fastlstm.LSTM in turn on real data; results in demo-output/
	$(BIN)/fastlstm demo

# Two processes, most of whose tests have one thread; worksteal keeps a file's tests together until one process has nothing left.
test: $(VENV)/installed  ## the Python tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

# The native tests want the headers of doctest and nlohmann-json (Debian: doctest-dev, nlohmann-json3-dev).
test-native: $(VENV)/installed  ## the native tests
	$(call native_tests,native,,-j 2)

test-sanitizers: test-asan test-tsan  ## the native tests under AddressSanitizer and UBSan, the threaded ones under ThreadSanitizer

test-asan: $(VENV)/installed
	$(call native_tests,asan,-DFASTLSTM_SANITIZE=address$(comma)undefined,-j 2)

test-tsan: $(VENV)/installed
	$(call native_tests,tsan,-DFASTLSTM_SANITIZE=thread,-R "^(team|engine|rows_elsewhere)",--target test_team test_engine test_rows_elsewhere)

fuzz: $(VENV)/installed  ## 100,000 random calls, right and wrong, beside nn.LSTM: 15 minutes at most
	$(BIN)/python -m tests.fuzz --count 100000 --seconds 900

# Masked vector loads hide reads outside of memory from AddressSanitizer: generic.
fuzz-sanitized: build/asan-python/installed  ## 10,000 of them under AddressSanitizer
	$(sanitized) -m tests.fuzz --count 10000 --isa generic

# The extension with AddressSanitizer in it, in a folder that goes before the installed package; Python itself leaks at exit.
build/asan-python/installed: $(VENV)/installed
	$(install) --no-deps --upgrade --target build/asan-python . \
	  -C build-dir=build/asan-python-objects -C cmake.define.FASTLSTM_SANITIZE=address,undefined
	@touch $@

sanitized = PYTHONPATH=build/asan-python ASAN_OPTIONS=detect_leaks=0 \
  LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" $(BIN)/python

test-python-sanitized: build/asan-python/installed  ## Python tests of shapes, packed batches and gradients under AddressSanitizer
	$(sanitized) -m pytest -q tests/torch/test_lstm_shapes.py tests/torch/test_lstm_packed.py tests/torch/test_function.py \
	  tests/torch/test_lstm_lengths.py tests/torch/test_arrays.py
	$(sanitized) -m tests.fuzz --count 500 --isa generic

# Wants g++-aarch64-linux-gnu and qemu-user.
test-aarch64: $(VENV)/installed  ## the native tests, cross-built for AArch64 and run under qemu-user
	$(call native_tests,aarch64,-DCMAKE_TOOLCHAIN_FILE=native/aarch64.cmake,-j 2)

# Wants emscripten and nodejs.
test-wasm: $(VENV)/installed  ## the native tests, built for WebAssembly and run under Node
	$(call native_tests,wasm,-DCMAKE_TOOLCHAIN_FILE=native/wasm.cmake)

# Clang for systems that are not here, and the sources of their libraries, which it builds at their first use: minutes.
$(VENV)/zig: $(VENV)/installed
	$(install) ziglang==0.17.1
	@touch $@

# Wants wine64.
test-windows: $(VENV)/zig  ## the native tests, cross-built for Windows and run under Wine
	$(call native_tests,windows,-DCMAKE_TOOLCHAIN_FILE=native/windows.cmake,,-j 2)

# Nothing here runs them.
build-macos: $(VENV)/zig  ## the library and the native tests, compiled and linked for macOS, for both of its processors
	$(foreach processor,arm64 x86_64,$(call build_macos,$(processor)))

build_macos = $(call native_build,macos-$(1),-DCMAKE_TOOLCHAIN_FILE=native/macos.cmake -DCMAKE_SYSTEM_PROCESSOR=$(1),-j 2)

# NumPy and safetensors, and nothing else; the package as a wheel of the first environment's objects.
build/alone/installed: $(VENV)/installed
	$(PYTHON) -m venv build/alone
	$(call pip,wheel) --no-deps --wheel-dir build/alone/wheel .
	build/alone/bin/pip install -q --disable-pip-version-check numpy safetensors
	build/alone/bin/pip install -q --disable-pip-version-check --force-reinstall --no-deps build/alone/wheel/*.whl
	@touch $@

test-alone: build/alone/installed  ## the installed package where there is no torch
	cd build/alone && bin/python -I $(CURDIR)/tests/alone/without_torch.py

# Wants a GPU, and in .venv a torch for it, which on PyPI torch==2.13.0 is.
test-cuda: $(VENV)/installed  ## the layers on a GPU, on cuDNN; one line where there is none
	@$(BIN)/python -m tests.cuda

# Another torch than the daily one, as a user's pip gets it: PyPI's builds for Linux bring CUDA, three to seven GB to be removed with
# the folder afterwards; PIP_INDEX_URL may name an index of CPU builds. The package as a wheel of the first environment's objects.
# What is of no torch, the house, the pages and the types, is not asked again.
other := build/torch-$(TORCH)
other_pip = $(other)/bin/pip install -q --disable-pip-version-check
$(other)/installed: $(VENV)/installed
	$(if $(TORCH),,$(error which torch: make test-torch TORCH=2.15.0))
	$(PYTHON) -m venv $(other)
	$(other_pip) torch==$(TORCH)
	$(call pip,wheel) --no-deps --wheel-dir $(other)/wheel .
	$(other_pip) --force-reinstall --no-deps --no-index --find-links $(other)/wheel fastlstm
	$(other_pip) "fastlstm[test]"
	@touch $@

test-torch: $(other)/installed  ## with TORCH=2.x.y: the Python tests with that version of torch
	$(other)/bin/python -m pytest -n 2 --dist worksteal tests/torch tests/fuzz tests/numpy tests/cli tests/bench/test_peers.py \
	  tests/test_checkpoint.py tests/test_files.py tests/test_reference.py tests/test_shapes.py tests/test_torch_hook.py \
	  tests/test_torch_versions.py

# By plain CMake, installed to a folder of the build, from where the examples are built as users would build them. Wants
# nlohmann-json's headers and pkg-config.
test-c: $(VENV)/installed  ## the library for C and C++: built, installed, and its examples run
	$(BIN)/cmake -S . -B build/c -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja > /dev/null
	$(BIN)/cmake --build build/c
	$(call test_c,build/c)

# After test-asan, which builds the library, without AVX-512: bits are compared on the instruction set that both have.
test-c-sanitized:  ## the same under AddressSanitizer and UBSan
	flags="-fsanitize=address,undefined -fno-sanitize-recover=all"; export CFLAGS="$$flags" CXXFLAGS="$$flags" FASTLSTM_ISA=generic; $(call test_c,build/asan)

define test_c
$(BIN)/cmake --install $(1) --prefix $(1)/prefix > /dev/null && \
	  PATH="$(CURDIR)/$(BIN):$$PATH" FASTLSTM_PREFIX=$(1)/prefix $(BIN)/python -m pytest tests/c
endef

# Packages that hold an nn.LSTM, as PyPI has them, in an environment of their own. --no-deps, with what they import named before it:
# nothing may replace the CPU build of torch, Resemblyzer asks for webrtcvad, which has no wheels, silero-vad for torchaudio, which on
# PyPI wants CUDA and which only its reading of files imports, and BeatNet for madmom and an old numba, which its network doesn't.
# Resemblyzer imports pkg_resources, g2p-en nltk and inflect, speechbrain hyperpyyaml and sentencepiece, darts holidays and narwhals, flair
# boto3 and those after it. Of faster-whisper, ddddocr and dksplit only the ONNX files are read. flair wants a transformers before 5,
# which wants a huggingface_hub before 1, and brings a package `tests`, which would stand in the place of ours: its folder is before the
# others for its own tests alone. The engine comes as a wheel of the first environment's objects; the last line installs what it
# depends on.
ecosystem := build/ecosystem/bin/pip install -q --disable-pip-version-check
build/ecosystem/installed: $(VENV)/installed
	$(PYTHON) -m venv build/ecosystem
	$(ecosystem) torch==2.13.0
	$(ecosystem) torch==2.13.0 pytest hypothesis librosa soundfile nltk inflect webrtcvad-wheels "setuptools<81" ruamel.yaml xarray \
	  sb3-contrib==2.9.2 pytorch-forecasting==1.8.0 "gluonts[torch]==0.17.0" torchrl==0.14.1 tensordict==0.14.3 opacus==1.6.0 \
	  lightning==2.6.6 huggingface_hub==2.4.0 captum==0.9.0 hyperpyyaml sentencepiece holidays narwhals \
	  boto3 "conllu<5" deprecated ftfy gdown lxml regex segtok "bioc<3" "onnx>=1.19" "onnxruntime>=1.20"
	$(ecosystem) --no-deps resemblyzer==0.1.4 silero-vad==6.2.3 neuralhydrology==1.13.0 \
	  BeatNet==1.1.3 g2pM==0.1.2.5 g2p-en==2.1.0 speechbrain==1.1.2 darts==0.48.1 \
	  faster-whisper==1.2.1 ddddocr==1.6.1 dksplit==1.0.2
	$(ecosystem) --no-deps --target build/ecosystem/flair flair==0.15.1 transformers==4.57.6 tokenizers==0.22.2 huggingface_hub==0.36.2 \
	  transformer-smaller-training-vocab==0.4.2
	rm -r build/ecosystem/flair/tests
	$(call pip,wheel) --no-deps --wheel-dir build/ecosystem/wheel .
	$(ecosystem) --force-reinstall --no-deps --no-index --find-links build/ecosystem/wheel fastlstm
	$(ecosystem) fastlstm
	@touch $@

test-ecosystem: build/ecosystem/installed  ## packages of PyPI with enable() and convert(): the same results, and the times
	build/ecosystem/bin/python -m pytest tests/ecosystem --ignore tests/ecosystem/test_flair.py
	PYTHONPATH=build/ecosystem/flair build/ecosystem/bin/python -m pytest tests/ecosystem/test_flair.py

# python3.12 stands for all later ones. Where pyenv has one, a shell may know it without being able to run it. Wheels for AArch64 want
# g++-aarch64-linux-gnu, and to be run qemu-user.
python_of = $(shell for python in python$(1) $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$(1).*/bin/python; do \
  $$python -c '' 2> /dev/null && echo $$python && break; done)
WHEEL_PYTHONS = $(PYTHON) $(call python_of,3.12)

wheels:  ## dist/: the source and wheels of it, for every Linux with glibc 2.17 or later
	wheels/build.sh $(WHEEL_PYTHONS)

test-wheels: $(VENV)/installed  ## the wheels in dist/, on every Python that can be had, without torch and compilers
	wheels/test.sh $(WHEEL_PYTHONS) $(call python_of,3.13)

timed := build/wheels/timed/bin
bench-wheels: $(VENV)/installed  ## the wheel in dist/ for this Python beside the build from source, in turn: ratios of their times
	$(PYTHON) -m venv build/wheels/timed
	$(timed)/pip install -q --disable-pip-version-check torch==2.13.0 numpy safetensors
	$(timed)/pip install -q --disable-pip-version-check --force-reinstall --no-deps --no-index --find-links dist fastlstm
	$(BIN)/python benchmarks/pair.py $(BIN)/python $(timed)/python --grids people --seconds 0.2

comma := ,
define native_build
$(BIN)/cmake -S . -B build/$(1) -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja -DFASTLSTM_PYTHON=OFF -DFASTLSTM_TESTS=ON $(2) > /dev/null
	$(BIN)/cmake --build build/$(1) $(3)
	
endef
define native_tests
$(call native_build,$(1),$(2),$(4))$(BIN)/ctest --test-dir build/$(1) --output-on-failure $(3)
endef

lint: $(VENV)/installed  ## ruff, mypy, clang-format, GitHub's schema of workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

format: $(VENV)/installed  ## let ruff and clang-format rewrite
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

# The engines of --peers: no other target wants them.
$(VENV)/bench-tools: $(VENV)/installed
	$(install) ".[bench]"
	@touch $@

bench: $(VENV)/bench-tools  ## fastlstm against the engines people use, over every grid, and the conditions; CSV and pictures in benchmarks/
	$(BIN)/fastlstm bench --peers torch,onnxruntime,openvino,jax --csv benchmarks/inference.csv --plot benchmarks/inference.png
	$(BIN)/fastlstm bench --train --csv benchmarks/training.csv --plot benchmarks/training.png
	$(BIN)/fastlstm bench --cell gru --peers torch,onnxruntime,openvino,jax --csv benchmarks/gru.csv
	$(BIN)/fastlstm bench --cell gru --train --csv benchmarks/gru-training.csv
	$(BIN)/fastlstm bench --grid stream --peers torch,onnxruntime,openvino --csv benchmarks/stream.csv
	$(BIN)/fastlstm bench --grid stream --cell gru --peers torch,onnxruntime,openvino --csv benchmarks/gru-stream.csv
	$(foreach grid,ragged proj float64 bfloat16 models,$(call bench_grid,$(grid)))
	$(BIN)/fastlstm conditions --csv benchmarks/conditions.csv
	$(BIN)/fastlstm conditions --cell gru --csv benchmarks/gru-conditions.csv

define bench_grid
$(BIN)/fastlstm bench --grid $(1) --csv benchmarks/$(1).csv
	$(BIN)/fastlstm bench --grid $(1) --train --csv benchmarks/$(1)-training.csv
	
endef

# Sphinx: no other target wants it. What it makes asks no other host for anything.
$(VENV)/docs-tools: $(VENV)/installed
	$(install) ".[docs]"
	@touch $@

docs: $(VENV)/docs-tools  ## the documentation as a site; open site/index.html
	rm -rf site
	$(BIN)/sphinx-build -W --keep-going -q -E -c docs -d build/docs . site
	$(if $(shell command -v em++),$(MAKE) --no-print-directory live,@echo "site/live was left out: it wants Emscripten (Debian: emscripten)")
	$(BIN)/python docs/check.py site

# The engine for WebAssembly, forward alone, and the page around it. Wants emscripten and nlohmann-json's headers.
live: $(VENV)/installed  ## the layer in a browser; open site/live/index.html
	$(BIN)/cmake -S . -B build/live -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja -DFASTLSTM_LIVE=ON \
	  -DCMAKE_TOOLCHAIN_FILE=$(CURDIR)/native/wasm.cmake -DCMAKE_BUILD_TYPE=MinSizeRel > /dev/null
	$(BIN)/cmake --build build/live
	$(BIN)/python live/build.py build/live/live/live.wasm site/live

# Chromium is Debian's; Playwright comes without a browser of its own, axe-core and TypeScript from npm.
build/live-tools/installed: $(VENV)/installed
	$(BIN)/pip install -q --disable-pip-version-check "playwright>=1.50"
	npm install --silent --no-save --prefix build/live-tools axe-core@4.14.1 typescript@7.0.2
	@touch $@

test-live: live build/live-tools/installed  ## the page in Chromium: its numbers beside the package's, keyboard, axe, screenshots
	build/live-tools/node_modules/.bin/tsc -p live
	$(BIN)/python -m pytest tests/live

clean:  ## remove what was built
	rm -rf build dist $(VENV) demo-output site
