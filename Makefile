# What people do with this repository. Every target installs what it needs,
# says what it does, and reuses what an earlier run left.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test bench profile up down generate prepare build

TARGET := $(or $(CARGO_TARGET_DIR),target)
BOX := $(TARGET)/debug/aviary-e2e

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build ## Start a Kubernetes in a box, install Aviary, load 336,776 flights, ask three endpoints
	@$(BOX) demo

test: prepare ## Run every test: unit, property, engine, and end to end in the box
	@./.ci/test

bench: build ## Measure, and print each figure as a ratio beside the figure to reach
	@$(BOX) bench

profile: build ## Record which code of the gateway runs most, for the release build (half an hour)
	@./.ci/profile

up: build ## Start the Kubernetes in a box with Aviary installed, and leave it running
	@$(BOX) prepare

down: ## Stop the box and remove it with its data; what was built or installed for it stays
	@[ -x $(BOX) ] || { echo "==> building aviary-e2e, which takes the box down"; cargo build -p aviary-e2e; }
	@$(BOX) down

generate: ## Write the CRD manifests, the chart's RBAC and the reference pages anew
	@cargo xtask generate

prepare:
	@./.ci/prepare

# The whole workspace is built at once, so that every target shares one set of features and one cache.
build: prepare
	@echo "==> building Aviary and its tools (several minutes the first time, seconds after that)"
	@cargo build --workspace --bins
