# Each target does all of its own set-up. `make` alone lists them.
# Works with GNU make 3.81 (macOS) and newer.

.DEFAULT_GOAL := help
SHELL := /bin/sh
CARGO ?= cargo
HOLDFAST := $(CARGO) run -q -p holdfast --

# Queries are compiled against .sqlx/, so that a DATABASE_URL in the shell changes nothing about the build.
export SQLX_OFFLINE := true

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: up
up: ## Run everything for development, with private servers and demo data
	@$(HOLDFAST) up

.PHONY: test
test: ## Run all tests beside throwaway servers
	@$(HOLDFAST) with-services -- $(CARGO) test --workspace
