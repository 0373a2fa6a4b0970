# `make` lists the targets. Works with GNU make 3.81, which macOS ships.

# Node 24 comes with the packages: whatever node the machine has only has to run npm.
NODE := node_modules/.bin/node
INSTALLED := node_modules/.installed
IMAGE ?= sluice:dev
# Bases other than the usual ones: BUILD_ARGS="--build-arg BUILD_BASE=... --build-arg RUNTIME_BASE=..."
BUILD_ARGS ?=
KIND_KUBECONFIG = $(CURDIR)/.cache/kind-kubeconfig

# Finds a Redis server (installing one where that needs no password) and puts its folder on the PATH.
WITH_REDIS = redis=$$($(NODE) cli/dev/find-redis.ts) || exit 1; case $$redis in /*) PATH="$${redis%/*}:$$PATH";; esac

.PHONY: help run test soak fuzz integrations lint types format generate build image e2e chaos kind-up kind-down bench ci clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(INSTALLED) ## Start Sluice on this machine with the example policies (PORT_BASE=n moves its ports)
	@exec $(NODE) cli/main.ts dev --resources examples/dev

test: $(INSTALLED) ## Run all tests (VITEST_ARGS="test/policy -t burst" runs some)
	@$(WITH_REDIS); $(NODE) test/control-plane/prepare.ts && npm test --silent -- $(VITEST_ARGS)

soak: $(INSTALLED) ## Run the random tests for long, and load with memory and keys watched (SOAK_SECONDS=600)
	@$(WITH_REDIS); SLUICE_SEQUENCES=100000 npm test --silent -- test/lua/sequences test/lua/penalty.model && \
	  $(NODE) test/soak/run.ts

fuzz: $(INSTALLED) ## Throw a million bad inputs at the limiter's doors (FUZZ_SEED=n FUZZ_INPUTS=n)
	@$(WITH_REDIS); FUZZ_INPUTS=$${FUZZ_INPUTS:-1000000} npm test --silent -- test/fuzz

integrations: $(INSTALLED) ## Run the documented configurations of gateways (fetches them; TRAEFIK=path adds Traefik)
	@$(WITH_REDIS); $(NODE) test/integrations/prepare.ts && npm test --silent -- --config test/integrations/vitest.config.ts

lint: $(INSTALLED) ## Check the code's rules, and who imports whom
	@npm run --silent lint

types: $(INSTALLED) ## Check the types
	@npm run --silent typecheck

format: $(INSTALLED) ## Format every file
	@npm run --silent format

generate: $(INSTALLED) ## Write the generated files anew (crds/, charts/)
	@npm run --silent generate

build: $(INSTALLED) ## Compile to dist/
	@npm run --silent build

image: ## Build the container image (IMAGE=name:tag)
	docker build --tag $(IMAGE) --build-arg REVISION="$$(git rev-parse HEAD)" \
	  --build-arg VERSION="$$(sed -n 's/^  "version": "\(.*\)",$$/\1/p' package.json)" $(BUILD_ARGS) .

e2e: $(INSTALLED) ## Run the tests on real pods: KUBECONFIG and IMAGE, or ../shared/cluster where that is
	@IMAGE=$(IMAGE) test/cluster/run e2e $(VITEST_ARGS)

chaos: $(INSTALLED) ## Kill pods at random under load (CHAOS_SECONDS=600, CHAOS_SEED=n repeats); clusters as for e2e
	@IMAGE=$(IMAGE) test/cluster/run chaos $(VITEST_ARGS)

kind-up: image ## Make a kind cluster and load the image into it (then: make e2e KUBECONFIG=... IMAGE=sluice:dev)
	mkdir -p $(dir $(KIND_KUBECONFIG))
	kind create cluster --name sluice --config test/cluster/kind.yaml --kubeconfig $(KIND_KUBECONFIG) --wait 120s
	kind load docker-image $(IMAGE) --name sluice
	@echo 'now: make e2e KUBECONFIG=$(KIND_KUBECONFIG) IMAGE=$(IMAGE)'

kind-down: ## Remove the kind cluster
	kind delete cluster --name sluice

bench: $(INSTALLED) ## Measure; nothing here asserts a time
	@$(WITH_REDIS); npm run --silent bench

ci: ## Check everything, as continuous integration does
	@.ci/run

clean: ## Remove what build and tests left (packages stay)
	rm -rf dist coverage

# Exactly the locked versions. Packages that want a newer node than the machine's run on ours: npm's warnings are noise.
$(INSTALLED): package-lock.json
	@command -v npm >/dev/null || { echo 'npm is missing: install Node.js 20 or later, it brings npm' >&2; exit 1; }
	npm ci --no-audit --no-fund --loglevel=error
	@case "$$($(NODE) --version 2>&1)" in v24.*) ;; *) \
	  echo 'Node 24, which the package "node" brings, is not at $(NODE): npm did not run its install script.' >&2; \
	  echo 'Run this, then make again:  npm rebuild node --ignore-scripts=false && touch $@' >&2; \
	  exit 1;; esac
	@touch $@
