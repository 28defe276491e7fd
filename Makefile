# make demo    three agents on this machine convert a film (FILE=film for your own)
# make test    installs what the tests need, builds, runs every test (DMC_CORPUS=DIR adds films)
# make sim     the simulated mesh under many seeds (SEEDS=0..100)
# make lint    formatting and clippy
# make deb     a package for Debian and Ubuntu; make tarball: for every Linux (DMC_BIN=program)
# make package-test   installs both on two machines that it boots (root, some minutes)
# make bench   dmc against plain ffmpeg, and two agents against one (FILE=film RUNS=n)

SHELL := /bin/bash
CARGO ?= cargo

# command:package, for Debian and Ubuntu.
TOOLS := ffmpeg:ffmpeg unshare:util-linux ip:iproute2 nft:nftables curl:curl \
         fc-list:fontconfig python3:python3 mkfs.ext4:e2fsprogs cc:gcc
FONT  := /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf

.PHONY: demo test sim lint bench deb tarball package-test doc deny tools servers nextest clean-test-files

demo:
	examples/demo.sh

test: tools servers
	$(CARGO) build --locked -p dmc-agent --bin dmc
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	  echo "$(CARGO) nextest run --locked --workspace"; \
	  exec $(CARGO) nextest run --locked --workspace --no-fail-fast; \
	else \
	  echo "$(CARGO) test --locked --workspace"; \
	  exec $(CARGO) test --locked --workspace --no-fail-fast; \
	fi

SEEDS ?= 0..100
sim:
	$(CARGO) run --locked --release -p tests --bin sim -- --scenario all --seeds $(SEEDS)

lint:
	@for part in fmt clippy; do \
	  $(CARGO) $$part --version >/dev/null 2>&1 || missing="$$missing $$part"; \
	done; \
	if [ -n "$$missing" ]; then \
	  echo "lint needs cargo$$missing: rustup component add rustfmt clippy" >&2; exit 1; \
	fi
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

bench: tools
	tests/bench/one_machine.sh
	tests/bench/two_agents.sh

deb tarball:
	agent/packaging/package.sh $@

# Needs debootstrap and systemd-nspawn, and Debian's packages the first time.
package-test:
	tests/package/run.sh
	tests/package/container.sh

# Dependencies: licences, known faults, sources; and those that nothing uses.
deny:
	$(CARGO) deny check
	$(CARGO) machete

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --workspace

# Installs only what is missing, so a machine that has everything needs no root and no network.
tools:
	@PATH="$$PATH:/usr/sbin:/sbin"; missing=(); \
	for pair in $(TOOLS); do \
	  command -v "$${pair%%:*}" >/dev/null || missing+=("$${pair##*:}"); \
	done; \
	[ -e $(FONT) ] || missing+=(fonts-dejavu-core); \
	[ "$${#missing[@]}" -gt 0 ] || exit 0; \
	if ! command -v apt-get >/dev/null; then \
	  echo "not found, and there is no apt-get here: $${missing[*]}" >&2; \
	  command -v ffmpeg >/dev/null || exit 1; \
	  echo "the tests go on without them" >&2; exit 0; \
	fi; \
	sudo=; [ "$$(id -u)" -eq 0 ] || sudo=sudo; \
	echo "installing $${missing[*]}"; \
	$$sudo apt-get update -qq && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	  "$${missing[@]}"

# Servers that the examples are written for. Tests without them say that they skip.
servers:
	tests/install_optional.sh

# Not needed: `make test` runs the same tests with plain `cargo test`. It runs them faster.
nextest:
	$(CARGO) nextest --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-nextest

# The films of the zoo and what tests left when they were killed.
clean-test-files:
	rm -rf target/tmp
