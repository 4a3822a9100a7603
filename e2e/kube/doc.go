// Package kube tests the injector and the charts on a real Kubernetes: API server, kubelets, containerd, kube-proxy, kubectl and
// helm, which hack/kube.sh starts in namespaces of their own. make e2e-kube does all of that:
//
//	hack/kube.sh run go test -tags kube -count 1 ./e2e/kube
//
// runs it where everything is built; hack/kube.sh up before that leaves the cluster standing between runs.
//
// Two kinds of tests. Those that call t.Parallel share the cluster with others, in namespaces of their own. The others have the
// cluster for themselves, before all parallel ones: they kill the injector, restart the API server, drain a node.
package kube
