# Each target does all of its own set-up. `make` alone lists them.
# Works with GNU make 3.81 (macOS) and newer.

.DEFAULT_GOAL := help
CARGO ?= cargo
# Not `-p holdfast`: the features of dependencies are those of the whole workspace then, and nothing is built twice.
HOLDFAST := $(CARGO) run --bin holdfast --

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: up
up: ## Run everything for development, with private servers and demo data
	@$(HOLDFAST) up

.PHONY: test
test: ## Run all tests beside throwaway servers
	@$(HOLDFAST) with-services -- $(CARGO) test --workspace

.PHONY: bench
bench: ## Measure the product beside the ceilings of this machine; SECTIONS=orders for one of them
	@$(CARGO) build --release --bin holdfast --bin bench
	@$(HOLDFAST) with-services --durable -- $(CARGO) run --release --bin bench -- $(SECTIONS)

.PHONY: check
check: check-format check-queries check-lints check-docs check-dependencies ## Run every check that is no test
	@echo "Everything is clean."

.PHONY: check-format
check-format: ## Is the code formatted?
	$(CARGO) fmt --all -- --check

.PHONY: check-lints
check-lints: ## Does the compiler, clippy or cargo-machete complain?
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@scripts/ensure-cargo-tool.sh cargo-machete 0.9.2
	$(CARGO) machete

.PHONY: check-queries
check-queries: ## Is .sqlx/ what the queries of today need?
	$(HOLDFAST) with-services --migrated -- scripts/check-queries.sh

.PHONY: check-docs
check-docs: ## Does the documentation of the code build, with all of its links?
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --workspace --no-deps --document-private-items

.PHONY: check-dependencies
check-dependencies: ## Licences, bans, sources and known advisories of dependencies
	@scripts/ensure-cargo-tool.sh cargo-deny 0.20.2
	scripts/check-dependencies.sh

.PHONY: prepare
prepare: ## Write .sqlx/ after a query or the schema has changed
	@# A changed query may not compile before it is prepared; the servers alone can be built without any query.
	@$(CARGO) build -q --bin holdfast 2>/dev/null || alone=--no-default-features; \
	$(CARGO) run --bin holdfast $$alone -- with-services --migrated -- scripts/prepare-queries.sh

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: clean-data
clean-data: ## Throw away the data of `make up`
	@$(HOLDFAST) clean-data
	@rm -rf .holdfast

.PHONY: reference
reference: ## Write docs/openapi.json and the table of settings after an operation or a setting has changed
	@$(CARGO) build -q --bin holdfast
	@scripts/write-reference.sh target/debug/holdfast
