// Command netpol enforces the NetworkPolicies of the test cluster: kube-router's policy controller without the rest of
// kube-router, which is half of Go's network world. The nodes share an address, so one of these sees the pods of all. Until SIGTERM;
// then its rules go.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	kubeconfig := flag.String("kubeconfig", os.Getenv("KUBECONFIG"), "file that says where the API server is")
	node := flag.String("node", "node1", "a node, for its address")
	services := flag.String("service-cluster-ip-range", "10.96.0.0/16", "addresses of Services")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, *kubeconfig, *node, *services); err != nil {
		fmt.Fprintln(os.Stderr, "netpol:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kubeconfig, node, services string) error {
	where, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(where)
	if err != nil {
		return err
	}
	set := options.NewKubeRouterConfig()
	set.EnableIPv4, set.RunFirewall, set.HostnameOverride, set.ClusterIPCIDRs = true, true, node, []string{services}
	tables, sets, err := netpol.NewIPTablesHandlers(set)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	controller, err := netpol.NewNetworkPolicyController(client, set, pods, policies, namespaces, new(sync.Mutex), tables, sets)
	if err != nil {
		return err
	}
	for _, err := range []error{
		add(pods.AddEventHandler(controller.PodEventHandler)),
		add(namespaces.AddEventHandler(controller.NamespaceEventHandler)),
		add(policies.AddEventHandler(controller.NetworkPolicyEventHandler)),
	} {
		if err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())

	// The controller tells of each round, and waits until somebody listens.
	beats := make(chan *healthcheck.ControllerHeartbeat)
	go func() {
		for range beats {
			fmt.Println("round", time.Now().Format(time.TimeOnly))
		}
	}()
	var done sync.WaitGroup
	done.Add(1)
	go controller.Run(beats, ctx.Done(), &done)
	<-ctx.Done()
	done.Wait()
	close(beats)
	controller.Cleanup()
	return nil
}

func add(_ any, err error) error { return err }
