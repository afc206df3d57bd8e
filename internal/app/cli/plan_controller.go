package cli

import (
	"context"
	"fmt"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/internal/app/controller"
	"fairway.dev/fairway/internal/export"
)

// controllerPlan is how much the controller would write in one direction. The command
// of its name shows each write.
type controllerPlan struct {
	// Of is services, to Consul, or imports, to Kubernetes; controller if it is not
	// known what that was asked to do.
	Of string `json:"of"`
	// Problem is why the plan is not known; then there is none.
	Problem  string `json:"problem,omitempty"`
	Services int    `json:"services"` // that are published, or imported
	Writes   int    `json:"writes"`
	Held     int    `json:"held"`
}

// controllerPlans decide what the controller has to, as fairway services and fairway
// imports do. There is none of what it was not asked to do.
func (a *access) controllerPlans(ctx context.Context) []controllerPlan {
	args, err := a.controllerArgs(ctx)
	if err != nil {
		return []controllerPlan{{Of: "controller", Problem: err.Error()}}
	}
	var plans []controllerPlan
	var decide []func(context.Context, *controllerPlan) error
	if controller.Exports(args) {
		plans, decide = append(plans, controllerPlan{Of: "services"}), append(decide, a.planServices)
	}
	if controller.Imports(args) {
		plans, decide = append(plans, controllerPlan{Of: "imports"}), append(decide, a.planImports)
	}
	var group sync.WaitGroup
	for i := range plans {
		group.Go(func() {
			if err := decide[i](ctx, &plans[i]); err != nil {
				plans[i].Problem = strings.ReplaceAll(err.Error(), "\n", "; ")
			}
		})
	}
	group.Wait()
	return plans
}

// controllerArgs are the arguments of Fairway's controller; none if there is none.
func (a *access) controllerArgs(ctx context.Context) ([]string, error) {
	client, err := a.kubernetes()
	if err != nil {
		return nil, err
	}
	deployment, err := client.AppsV1().Deployments(a.FairwayNamespace).Get(ctx, controllerName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for Fairway's controller: %w", err)
	}
	return words(deployment.Spec.Template.Spec), nil
}

func (a *access) planServices(ctx context.Context, p *controllerPlan) error {
	found, err := a.published(ctx, nil)
	if err != nil {
		return err
	}
	for _, l := range found.Services {
		if l.State == string(export.Published) {
			p.Services++
		}
		p.Writes += len(l.Writes)
		p.Held += len(l.Held)
	}
	return nil
}

func (a *access) planImports(ctx context.Context, p *controllerPlan) error {
	lines, err := a.imports(ctx, "")
	for _, l := range lines {
		p.Services += l.Services
		p.Writes += len(l.Writes)
		p.Held += len(l.Held)
	}
	return err
}

func (p controllerPlan) empty() bool { return p.Writes+p.Held == 0 }

// text is the plan for people.
func (p controllerPlan) text() string {
	verb := map[string]string{"services": "published", "imports": "imported"}[p.Of]
	switch {
	case p.Problem != "":
		return fmt.Sprintf("%-8s  not known: %s\n", p.Of, p.Problem)
	case p.empty():
		return fmt.Sprintf("%-8s  the controller has nothing to do; %s %s\n", p.Of, counted(p.Services), verb)
	}
	return fmt.Sprintf("%-8s  the controller has %d to write, and holds %d; %s %s; fairway %s shows what and why\n",
		p.Of, p.Writes, p.Held, counted(p.Services), verb, p.Of)
}

// counted says how many Services.
func counted(n int) string {
	if n == 1 {
		return "1 Service is"
	}
	return fmt.Sprintf("%d Services are", n)
}
