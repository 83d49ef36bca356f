# Two targets are for everybody: `make demo` and `make test`. Both install what they need with apt (as root or
# with sudo), say what they install, and leave this machine's network configuration alone.

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# Tests make network namespaces and processes with identities of their own, which takes root; cargo itself does not.
ifneq ($(SUDO),)
HOST := $(shell rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
export CARGO_TARGET_$(HOST)_RUNNER := $(SUDO) -E
endif

# What the rig, netvm's image and the tests are made of.
PACKAGES := gcc g++ libc6-dev busybox-static cpio debian-archive-keyring device-tree-compiler dnsmasq-base iproute2 \
            kmod nftables procps qemu-system-arm qemu-system-x86 seabios strace tcpdump
# Any kernel with VFIO will do (cloud flavours have none); Debian and Ubuntu name it differently.
KERNEL := $(if $(shell ls -d /lib/modules/*/kernel/drivers/vfio/pci 2>/dev/null),,$(shell \
            if grep -q '^ID=ubuntu' /etc/os-release; then echo linux-image-generic; else echo linux-image-amd64; fi))

# What `cargo fuzz` passes to rustc, but for the address sanitizer, which only a nightly compiler has.
TRIPLE := $(shell rustc -vV | sed -n 's/^host: //p')
COVERAGE := level=4 inline-8bit-counters pc-table trace-compares
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module $(addprefix -Cllvm-args=-sanitizer-coverage-,$(COVERAGE))
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))

.PHONY: demo test check-versions check-aarch64 fuzz lint build bench bench-peers bench-instructions dt-corpus install prerequisites clean

## demo: the whole thing at work in an emulated PC; results in netvm-demo/
demo: prerequisites build
	$(SUDO) target/release/netvm demo

## test: everything that CI runs
test: prerequisites lint check-versions check-aarch64
	cargo build --workspace
	cargo test --workspace
	$(MAKE) fuzz SECONDS=15

## fuzz: every fuzz target for SECONDS each; what was learned stays in fuzz/corpus/
SECONDS ?= 600
fuzz:
	RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --release --bins --manifest-path fuzz/Cargo.toml \
	  --target $(TRIPLE) --target-dir target/fuzz
	@set -e; for target in $(FUZZ_TARGETS); do \
	  echo "Fuzzing $$target for $(SECONDS) s"; \
	  mkdir -p fuzz/corpus/$$target fuzz/artifacts/$$target; \
	  log=target/fuzz/$$target.log; \
	  target/fuzz/$(TRIPLE)/release/$$target fuzz/corpus/$$target fuzz/seeds/$$target -max_total_time=$(SECONDS) \
	    -timeout=10 -rss_limit_mb=1024 -artifact_prefix=fuzz/artifacts/$$target/ -print_final_stats=1 >$$log 2>&1 || \
	    { tail -n 60 $$log; echo "Fuzzing $$target failed; all of it is in $$log"; exit 1; }; \
	  grep '^Done' $$log; \
	done

## lint: formatting, clippy, documentation; no root, no packages
lint:
	cargo fmt --all -- --check
	cargo fmt --manifest-path fuzz/Cargo.toml -- --check
	cargo fmt --manifest-path tests/versions/Cargo.toml -- --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

## check-versions: our libraries compile beside the versions that cloud-hypervisor pins, and share its types
check-versions:
	cargo check --manifest-path tests/versions/Cargo.toml --target-dir target/versions
	@twice=$$(cargo tree --manifest-path tests/versions/Cargo.toml --duplicates --depth 0 -e normal | \
	  grep -E '^(iommufd|kvm|vfio|vhost|virtio|vm|vmm)[- ]' || true); \
	if [ -n "$$twice" ]; then echo "Linked in two versions, so types are not shared:"; echo "$$twice"; exit 1; fi

## check-aarch64: what VMMs link, and the links, compile for aarch64; the rest needs a C compiler for it
check-aarch64:
	@if rustup -q target add aarch64-unknown-linux-gnu; then \
	  cargo check --target aarch64-unknown-linux-gnu -p vmm-plugin -p vhost-net-backend -p dt-overlay -p minivmm; \
	else \
	  echo "SKIP check-aarch64: there is no rustup that could get a standard library for aarch64"; \
	fi

## build: the two commands, and the VMM among the examples, optimised
build:
	cargo build --release --bins -p netvm -p vhost-net-backend -p minivmm

## bench: what links carry on this machine; BENCH="--quick" and other options of `netvm bench`
bench: build
	$(SUDO) target/release/netvm bench --svg bench.svg $(BENCH)

## bench-peers: links beside DPDK's vhost, in turn; PEERS="--huge-pages" reserves what DPDK needs meanwhile
bench-peers: build
	$(SUDO) bench/peers.sh $(PEERS)

## bench-instructions: instructions that a link spends on a frame, counted by valgrind; the same on every machine
bench-instructions: build
	cargo build --release -p netvm-bench --example frames
	bench/instructions.sh

## dt-corpus: what can be given away on the boards of Debian's arm64 kernel, by family; fetches 60 MB once
dt-corpus:
	cargo test --release -p dt-overlay --test corpus -- --nocapture --test-threads=1

## install: what `make build` made, man page, completions and unit, below $(DESTDIR)$(PREFIX); as root
PREFIX ?= /usr/local
install:
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin target/release/netvm target/release/netvm-link
	install -d $(DESTDIR)$(PREFIX)/share/man/man8 $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	target/release/netvm man > $(DESTDIR)$(PREFIX)/share/man/man8/netvm.8
	target/release/netvm completions bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/netvm
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system netvm.service

## prerequisites: installs what is missing, and says what
prerequisites:
	@missing=""; \
	for package in $(PACKAGES) $(KERNEL); do \
	  dpkg-query -W -f '$${db:Status-Status}' $$package 2>/dev/null | grep -qx installed || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
	  echo "Installing with apt:$$missing"; \
	  $(SUDO) apt-get update -q && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; \
	fi

clean:
	cargo clean
