# What is made, and what each target installs, is said as it happens. All of them can be run again.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up

# Debian's names. python3-bpfcc is the compiler; the rest is what the lab, the tests and the machines use.
APT_RUN := python3-bpfcc python3-venv iproute2 nftables iputils-ping
APT_TEST := bpftrace bpftool gcc libc6-dev binutils procps e2fsprogs tshark chromium fonts-dejavu-core systemd
APT_VM := qemu-system-x86 qemu-system-common busybox-static kmod zstd

.PHONY: help setup setup-test demo test check bench clean

help:
	@printf '%s\n' \
	  'make demo    set up, then show the main job on real packets' \
	  'make test    set up, then run all tests, here and on stock kernels in QEMU' \
	  'make check   format, lint, types and unit tests' \
	  'make bench   exactness and cost under a storm of drops' \
	  'make setup   only set up: Debian packages and .venv' \
	  'make clean   remove .venv and caches of this tree'

setup: $(STAMP)
	@tools/apt-packages $(APT_RUN)

setup-test: setup
	@tools/apt-packages $(APT_TEST) $(APT_VM)
	@test -e $(VENV)/.set-up-test || { echo 'installing the test tools into $(VENV): pytest, hypothesis, scapy, pyarrow, duckdb, playwright, ruff, mypy'; \
	  $(BIN)/python -m pip install --quiet --editable '.[dev]' && touch $(VENV)/.set-up-test; }

# The distribution's own Python, because its bcc is built for it and for no other.
$(STAMP): pyproject.toml
	@tools/apt-packages $(APT_RUN)
	@echo 'making $(VENV) from /usr/bin/python3 and installing pmtutrace into it'
	@/usr/bin/python3 -m venv --system-site-packages $(VENV)
	@$(BIN)/python -m pip install --quiet --editable .
	@$(BIN)/python -m compileall -q src
	@rm -f $(VENV)/.set-up-test; touch $(STAMP)

demo: setup
	@$(BIN)/pmtutrace demo

test: setup-test
	@$(BIN)/python -m pytest

check: setup-test
	@$(BIN)/ruff format --check src tests
	@$(BIN)/ruff check src tests
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/unit tests/property tests/golden

bench: setup-test
	@$(BIN)/python tests/bench/storm.py
	@$(BIN)/python tests/bench/tunnels.py
	@$(BIN)/python tests/bench/start.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
