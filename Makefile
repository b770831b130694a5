# Run `make help` for the targets.

REBAR3 ?= rebar3
CLANG_FORMAT ?= clang-format
INSTALL_MISSING = scripts/install_missing.sh
C_FILES = $(shell find c_src test bench -name '*.[ch]' ! -path '*/bin/*' 2>/dev/null)

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-17s %s\n", $$1, $$2}' Makefile

.PHONY: deps deps-build deps-test deps-bench
deps: ## install the Debian packages that are missing for build, tests and benchmark
	@$(INSTALL_MISSING) build test gleam bench

deps-build:
	@$(INSTALL_MISSING) build

deps-test:
	@$(INSTALL_MISSING) build test

deps-bench:
	@$(INSTALL_MISSING) build bench

.PHONY: compile
compile: deps-build ## build the NIF and the Erlang application
	@$(REBAR3) compile

# The order is the order of running: the quick and the basic ones come first, and what the others share is built.
TESTS = format-check house-check test-warnings test-c compile
# Then these, each lane beside the others. The suites wait most of the time, for each other or for daemons that are slow;
# what computes gives way.
SUITES = test-erl test-gleam
DAEMONS = test-node-valgrind test-node-asan
SLOW = test-asan test-tsan xref dialyzer test-spin test-asan-vm test-valgrind
ALL_TESTS = $(filter-out compile,$(TESTS)) $(SUITES) $(DAEMONS) $(SLOW)

# A warning of the C compiler is an error here (c_src/Makefile), and nowhere else.
test $(ALL_TESTS): export SOCKPOOL_STRICT = 1

.PHONY: test $(ALL_TESTS)
test: deps-test ## run every test, after installing what is missing
	@MAKE='$(MAKE)' scripts/timed.sh $(TESTS)
	@export MAKE='$(MAKE)'; nice scripts/timed.sh -k $(DAEMONS) & daemons=$$!; \
	nice scripts/timed.sh -k $(SLOW) & slow=$$!; \
	scripts/timed.sh -k $(SUITES); status=$$?; \
	wait $$daemons || status=1; wait $$slow || status=1; exit $$status
	@echo "== all tests passed"

# Another release lays macros out otherwise.
LAYOUT_OF = clang-format version 14

.PHONY: screenshots
screenshots: deps-test ## take the pictures of the page for docs/, in a browser with a load behind it
	@SOCKPOOL_SCREENSHOTS='$(CURDIR)/docs' $(REBAR3) ct --suite test/observe/sockpool_page_SUITE --case pictures

format-check: deps-test ## check the layout of the C files
	@$(if $(C_FILES),,$(error format-check: no C files found))
	@case "$$($(CLANG_FORMAT) --version)" in \
	*"$(LAYOUT_OF)."*) $(CLANG_FORMAT) --dry-run -Werror $(C_FILES) ;; \
	*) echo "format-check: not checked: the layout is that of $(LAYOUT_OF), here is $$($(CLANG_FORMAT) --version)" ;; \
	esac

house-check: ## check who includes whom in the C code, and how long files and functions are
	@scripts/check_house.sh
	@scripts/check_house_test.sh

test-warnings: deps-test ## compile library, daemon, modules and benchmark; a warning is an error
	@$(REBAR3) as strict compile
	@$(MAKE) -s -B -C bench

test-c: deps-test ## C unit tests (Criterion)
	@$(MAKE) -s -C test/c test

test-asan: deps-test ## C unit tests under Address and UndefinedBehavior sanitizers
	@$(MAKE) -s -C test/c asan

test-tsan: deps-test ## thread stress program under ThreadSanitizer
	@$(MAKE) -s -C test/c tsan

test-spin: deps-test ## check the Promela models, and that broken variants are refuted
	@$(MAKE) -s -C test/model check

.PHONY: test-models
test-models: deps-test ## the same, also in the scenes with the most states (minutes)
	@$(MAKE) -s -C test/model check-all

CT_CASES = $(CURDIR)/logs/ct_cases.tsv

test-erl: deps-test ## EUnit, Common Test and PropEr on real sockets
	@$(REBAR3) eunit
	@mkdir -p logs; rm -f $(CT_CASES)
	@SOCKPOOL_CT_CASES=$(CT_CASES) $(REBAR3) ct; status=$$?; scripts/ct_report.sh $(CT_CASES) && exit $$status

test-gleam: deps-test compile ## type-check the Gleam package and its README, run its tests
	@$(INSTALL_MISSING) gleam
	@scripts/test_gleam.sh

test-valgrind: deps-test ## NIF suite in a VM under valgrind
	@scripts/valgrind_vm.sh

test-asan-vm: deps-test ## NIF suite in a VM under Address and UndefinedBehavior sanitizers
	@scripts/asan_vm.sh

test-node-asan: deps-test ## suites of pools with a daemon under Address and UndefinedBehavior sanitizers
	@REBAR3=$(REBAR3) scripts/node_checked.sh asan

test-node-valgrind: deps-test ## suites of pools with a daemon under valgrind
	@REBAR3=$(REBAR3) scripts/node_checked.sh valgrind

.PHONY: test-tls-connects
test-tls-connects: deps-test ## 10,000 TLS connects in a VM under the sanitizers, and under valgrind (minutes)
	@SOCKPOOL_TLS_CONNECTS=10000 scripts/asan_vm.sh
	@SOCKPOOL_TLS_CONNECTS=10000 scripts/valgrind_vm.sh

.PHONY: test-debian13
test-debian13: ## run every test in a Debian 13, which it makes in a folder (as root; half an hour)
	@scripts/debian13.sh make test

.PHONY: test-stress
STRESS_SECONDS ?= 120
test-stress: deps-test ## trouble of every kind for STRESS_SECONDS (120), in the VM and with a daemon, also under ASan
	@SOCKPOOL_STRESS_SECONDS=$(STRESS_SECONDS) $(REBAR3) ct --suite test/sockpool_stress_SUITE
	@SOCKPOOL_STRESS_SECONDS=$(STRESS_SECONDS) scripts/asan_vm.sh
	@SOCKPOOL_STRESS_SECONDS=$(STRESS_SECONDS) REBAR3=$(REBAR3) scripts/node_checked.sh asan stress

.PHONY: test-pipeline
PIPELINE_REQUESTS ?= 10000000
test-pipeline: deps-test ## PIPELINE_REQUESTS (10,000,000) on pipes, with kills, time-outs and connections that end; each reply checked
	@SOCKPOOL_PIPELINE_REQUESTS=$(PIPELINE_REQUESTS) $(REBAR3) ct --suite test/pool/sockpool_pipeline_SUITE --group tcp --case storm

.PHONY: test-long-schedule
test-long-schedule: deps-test ## how long one call keeps a scheduler, where there is much to do (minutes)
	@scripts/long_schedule.sh

.PHONY: fuzz
fuzz: ## fuzz TLS records, framings and what nodes send, each target for FUZZ_SECONDS (30), under ASan and UBSan
	@$(INSTALL_MISSING) build fuzz
	@$(MAKE) -s -C test/fuzz run

xref: deps-test ## look for calls of functions that do not exist
	@$(REBAR3) xref

dialyzer: deps-test ## check the types
	@$(REBAR3) dialyzer

.PHONY: bench
bench: deps-bench compile ## run the benchmark, after installing what is missing
	@$(MAKE) -s -C bench run

.PHONY: clean
clean: ## remove everything that was built
	@$(MAKE) -s -C c_src clean
	@rm -rf _build ebin logs bench/bin bench/ebin test/c/bin test/fuzz/bin
