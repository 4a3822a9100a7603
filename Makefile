# inpod. `make` alone prints the targets. Go, make and apt are all that has to be there before.

SHELL := /bin/bash
GO ?= go
FUZZTIME ?= 30s
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# The go command fails to record the commit where git refuses to look: in a checkout of another user.
BUILDVCS := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo true || echo false)
# Static, without the builder's paths.
export CGO_ENABLED := 0
# What works at start-up or once a scrape needs no inlining: a quarter of a megabyte (docs/decisions/101-size.md).
COLD := google.golang.org/protobuf github.com/prometheus github.com/spf13 go.yaml.in github.com/aws oras.land
BUILD := $(GO) build -trimpath -buildvcs=$(BUILDVCS) $(foreach m,$(COLD),-gcflags='$(m)/...=-l') -ldflags '-s -w -X main.version=$(VERSION)'

.DEFAULT_GOAL := help
.PHONY: help build cross images image-lint e2e-images e2e-kube injector chart-test pod-test demo test test-short lint vuln fuzz bench docs clean

help: ## Print this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build bin/inpod for this machine
	$(BUILD) -o bin/inpod ./cmd/inpod

cross: ## Build bin/inpod-linux-amd64 and bin/inpod-linux-arm64
	GOOS=linux GOARCH=amd64 $(BUILD) -o bin/inpod-linux-amd64 ./cmd/inpod
	GOOS=linux GOARCH=arm64 $(BUILD) -o bin/inpod-linux-arm64 ./cmd/inpod

images: build ## Build every image of images/ with docker (BASE_IMAGE=debian:12-slim, IMAGES="digits jupyter")
	@hack/images.sh $(IMAGES)

image-lint: ## Hold the Dockerfiles, and the images that were built, against the rules of images/README.md
	@$(GO) run ./images/lint

e2e-images: ## Build the images, log in to them, call them, break them (root; starts dockerd where none runs)
	@hack/install.sh images
	@$(MAKE) --no-print-directory build
	@$(GO) tool gotestsum --format testname --format-icons text --hide-summary skipped -- -tags images -count 1 -timeout 45m ./e2e/images

injector: ## Build bin/inpod-injector for this machine
	$(BUILD) -o bin/inpod-injector ./cmd/inpod-injector

chart-test: ## Lint and render the charts with the real helm, and hold the objects against Kubernetes' schemas
	hack/kube.sh build helm kubeconform
	$(GO) vet -tags chart ./charts
	$(GO) test -count 1 -tags chart ./charts

# -trimpath as in kube.sh, so that Kubernetes is compiled once.
pod-test: ## Hold injected pods against the API server's own validation and Pod Security levels (builds much of Kubernetes)
	$(GO) test -C hack/kube -trimpath -count 1 .

e2e-kube: build injector ## Bring up a real Kubernetes, inject, update, drain and break it (root; builds Kubernetes, eleven minutes the first time)
	@hack/install.sh images kube
	hack/kube.sh build
	hack/kube.sh images
	@$(GO) vet -tags kube ./e2e/kube
	@rm -f bin/kube/report
	@code=0; KUBE_REPORT=$(CURDIR)/bin/kube/report hack/kube.sh run $(GO) tool gotestsum --format testname --format-icons text \
		--hide-summary skipped -- -tags kube -count 1 -timeout 30m ./e2e/kube || code=$$?; cat bin/kube/report; exit $$code

demo: ## Run a real model server under inpod and send it a picture (DEMO_ONCE=1: do not stay)
	@hack/install.sh demo
	@$(MAKE) --no-print-directory build
	@examples/digits/demo.sh

test: ## All tests with the race detector; started as root: as root and as a plain user
	@hack/install.sh test
	@hack/test.sh

test-short: ## The quick tests, without the race detector, as you are
	CGO_ENABLED=1 $(GO) test -short ./...

lint: cross ## Format, vet, staticcheck, shellcheck; binaries static and small
	@hack/install.sh lint
	@hack/lint.sh

vuln: ## Known vulnerabilities (needs https://vuln.go.dev, so not part of lint)
	$(GO) tool govulncheck ./...

fuzz: ## Every fuzz target for FUZZTIME (30s)
	@hack/fuzz.sh $(FUZZTIME)

bench: ## Measure beside supervisord, tini, s6, nginx, HAProxy, queue-proxy; writes bench/RESULTS.md
	@hack/install.sh test bench images
	$(GO) run ./bench

docs: ## Regenerate docs/reference
	$(GO) test ./config ./supervisor/ini ./cmd/inpod ./injector -run Reference -update
	$(GO) test ./charts -run README -update

clean: ## Remove what was built, trained and cached here
	rm -rf bin .demo examples/digits/model.npz examples/digits/__pycache__
