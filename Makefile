# Pyralog: one line a command; `make help` lists them.
SHELL := /bin/bash
ARGS ?=
PREFIX ?= /usr/local
DESTDIR ?=
SEED ?=
FUZZ_SECONDS ?= 60
export FUZZ_SECONDS

.DEFAULT_GOAL := build
.PHONY: help build run install deb test bench sim fuzz soak plants fresh demo format lint clean

help: ## these lines
	@sed -n 's/^\([a-z-]*%*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r a b; do printf '%-14s %s\n' "$$a" "$$b"; done

build: ## build the server: build/release/pyralog
	@scripts/setup.sh run
	@scripts/build.sh release pyralog

run: build ## build and start the server (ARGS="--kafka 127.0.0.1:0 …")
	@exec build/release/pyralog serve $(ARGS)

install: build ## install what is built (PREFIX=/usr/local, DESTDIR=)
	@DESTDIR="$(DESTDIR)" cmake --install build/release --component pyralog --prefix "$(PREFIX)"

deb: build ## a Debian package: build/deb/pyralog_VERSION_ARCH.deb
	@packaging/deb/build.sh build/release build/deb

test: ## every test, with a time budget
	@scripts/test.sh

test-%: ## one step of it: make test-unit (scripts/test.sh --list)
	@scripts/test.sh $*

bench: ## every benchmark of this machine, rewrites docs/benchmarks.md
	@scripts/setup.sh bench
	@scripts/bench.sh $(ARGS)

bench-%: ## one area of it: make bench-log (cluster, fetch, fsync, ids, latency, log, sizes)
	@scripts/setup.sh bench
	@scripts/bench.sh $* $(ARGS)

sim: ## the simulation; SEED=n replays one
	@scripts/setup.sh test
	@scripts/sim.sh $(SEED)

fuzz: ## every fuzzer for FUZZ_SECONDS (60)
	@scripts/setup.sh test
	@scripts/fuzz.sh

soak: ## the full counts, in parts that resume; writes docs/soak.md
	@scripts/setup.sh test
	@python3 scripts/soak.py $(ARGS)

plants: ## every planted defect must turn its test red
	@scripts/setup.sh test
	@python3 tests/plants/run.py $(ARGS)

fresh: ## follow the README in a bare Debian 12
	@tests/fresh/fresh.sh

demo: build ## a real data set through kcat, in and out
	@scripts/demo.sh

format: ## clang-format over src, tests and bench
	@git ls-files -z --cached --others --exclude-standard '*.h' '*.cc' | xargs -0r clang-format-22 -i

lint: ## clang-tidy over src
	@scripts/build.sh release pyralog
	@git ls-files 'src/*.cc' | grep -v '_test\.cc$$' | xargs -r -P 2 -n 4 clang-tidy-22 --quiet -p build/release

clean: ## remove build/, never ./data
	@rm -rf build
