# Everything a person or CI does here. `make` alone lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The same build everywhere: flags and workspaces of the machine's owner must
# not leak in, and a checkout owned by another user must not stop the build.
export GOFLAGS := -buildvcs=false
export GOWORK := off

# The steps of a target build on each other; go uses all cores by itself.
.NOTPARALLEL:

GO ?= go
LAB := $(GO) run ./lab

# The tests of packages that need a lab run last. Some of test/e2e have a lab of their
# own beside that of the others: both mostly wait, and both take as long. LAB names the
# one that test/e2e makes.
LAB_TEST := $(GO) test -count 1 -timeout 30m -v
SECOND_LAB := ^(TestCatalogMode|TestI2FaultMatrix|TestServicesInConsul|TestImport|TestI2ExportOutlivesItsLeader|TestI5TwoClustersOneConsul)$$

# Needs consul-k8s' catalog sync, which takes minutes to build. It changes as seldom
# as what it is about, so it has a target of its own.
MIGRATION := ^TestSwitchFromConsulK8sAndBack$$

# What a lab target works on: make lab-up NAME=two NODES=3 KUBERNETES=1.36
# ARGS are passed on by targets that say so.
NAME ?= dev
NODES ?= 2
KUBERNETES ?= 1.37
ARGS ?=

# What programs call themselves.
VERSION ?= dev

##@ Build and check

.PHONY: build
build: ## Build every package, and the commands into bin/
	$(GO) build ./...
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/...

.PHONY: cli
cli: ## Build the command fairway, and the same as a plugin of kubectl, into bin/ (VERSION)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/ ./cmd/fairway
	ln -sf fairway bin/kubectl-fairway

.PHONY: image
image: ## Build the OCI image dist/fairway.tar, as a release would ship it
	$(GO) run ./hack/image --output dist/fairway.tar

.PHONY: fmt
fmt: ## Format all Go code
	$(GO) tool -modfile=hack/tools/go.mod golangci-lint fmt

.PHONY: generate
generate: ## Write what is made from the .proto files and from api/: Go code and CRDs
	cd hack/protogen && $(GO) run .
	$(GO) tool -modfile=hack/crdgen/go.mod controller-gen object crd paths=./api/... \
		output:crd:dir=deploy/chart/files/crds

.PHONY: lint
lint: ## Run the linters (the first run builds them: some minutes)
	$(GO) tool -modfile=hack/tools/go.mod golangci-lint run

##@ Test

.PHONY: test
test: test-setup vet test-unit test-lab ## Run everything this machine can run; what CI calls

.PHONY: test-setup
test-setup: ## Install the packages and build the servers that tests need, with progress
	$(LAB) build

.PHONY: vet
vet: ## Run go vet
	$(GO) vet ./...

.PHONY: test-unit
test-unit: ## Run unit, property and component tests with the race detector
	packages=$$($(GO) list ./... | grep -vE '/(lab/cluster|test)(/|$$)'); \
	CGO_ENABLED=1 $(GO) test -race -timeout 10m $$packages

.PHONY: test-lab
test-lab: ## Run the tests that need a lab: Linux, root (KUBERNETES)
	export KUBERNETES=$(KUBERNETES); \
	$(LAB_TEST) ./lab/cluster/...; \
	said=$$(mktemp); trap 'rm -f $$said' EXIT; \
	LAB=e2e2 $(LAB_TEST) -run '$(SECOND_LAB)' ./test/e2e >$$said 2>&1 & second=$$!; \
	result=0; \
	$(LAB_TEST) -p 1 -skip '$(SECOND_LAB)|$(MIGRATION)' ./test/... || result=$$?; \
	wait $$second || result=$$?; cat $$said; \
	exit $$result

.PHONY: test-migration
test-migration: test-setup ## Run the change from consul-k8s with its own sync; the first run builds that (KUBERNETES)
	KUBERNETES=$(KUBERNETES) LAB=migrate $(LAB_TEST) -run '$(MIGRATION)' ./test/e2e

.PHONY: bench-gate
bench-gate: ## Measure the gate with 20 pods; ends with one line of JSON
	$(GO) run ./test/bench gate

.PHONY: bench-agent
bench-agent: ## Measure what an agent does and costs; ends with one line of JSON (ARGS="--pods 110 --registry agent")
	$(GO) run ./test/bench agent $(ARGS)

.PHONY: bench-services
bench-services: ## Measure what the controller does and costs with up to 5,000 Services; ends with one line of JSON (ARGS="--services 1000")
	$(GO) run ./test/bench services $(ARGS)

.PHONY: rollout
rollout: ## Replace pods under 200,000 requests, with a confirmed drain and without; ends with one line of JSON (ARGS)
	$(GO) run ./test/bench rollout $(ARGS)

.PHONY: faults
faults: ## Break all that Fairway depends on, with 60 pods under load, and count what clients notice (ARGS=--registry=catalog)
	$(GO) run ./test/bench faults $(ARGS)

##@ See it work

.PHONY: demo
demo: ## Show two rolling updates, one held up by stopped Consul servers (KEEP=1 keeps the lab)
	$(LAB) demo

.PHONY: transcript
transcript: ## Run the demo and write what it prints to docs/demo.txt
	$(LAB) demo | tee docs/demo.txt.new
	mv docs/demo.txt.new docs/demo.txt

.PHONY: lab-up
lab-up: ## Start a lab (NAME, NODES, KUBERNETES)
	$(LAB) up --name $(NAME) --nodes $(NODES) --kubernetes $(KUBERNETES)

.PHONY: lab-down
lab-down: ## Stop the lab NAME and remove all of it
	$(LAB) down --name $(NAME)

.PHONY: lab-clean
lab-clean: ## Stop all labs of this machine, and what killed runs left behind
	$(LAB) down --all

.PHONY: lab-status
lab-status: ## Show the lab NAME: processes, nodes, Consul members
	$(LAB) status --name $(NAME)

.PHONY: lab-logs lab-kubectl lab-exec lab-fault
lab-logs: ## Show a log of the lab NAME: ARGS="-f n1/kubelet"
lab-kubectl: ## Run kubectl in the lab NAME: ARGS="get pods -A"
lab-exec: ## Run a command on a host of the lab NAME: ARGS="client ip addr"
lab-fault: ## Break something in the lab NAME until Ctrl-C: ARGS="cut consul-1"
lab-logs lab-kubectl lab-exec lab-fault:
	$(LAB) --name $(NAME) $(@:lab-%=%) $(ARGS)

##@ Help

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z][a-z-]*:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile
