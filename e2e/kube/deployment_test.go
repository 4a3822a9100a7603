//go:build kube

package kube

import "testing"

// A Deployment whose image knows nothing of inpod gets the label, and nothing else changes for who uses it.
func TestDeployment(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	ns.apply(digits("wrap", 2))
	ns.rollout("deployment/digits")
	if got := ns.kubectl("exec", "deployment/digits", "--", "/opt/inpod/inpod", "ctl", "routes"); got == "" {
		t.Error("no routes")
	}
}

// digits is the digits server as its makers would deploy it.
func digits(mode string, replicas int) string {
	return `
apiVersion: apps/v1
kind: Deployment
metadata: {name: digits}
spec:
  replicas: ` + string(rune('0'+replicas)) + `
  selector: {matchLabels: {app: digits}}
  template:
    metadata: {labels: {app: digits, inpod.dev/inject: ` + mode + `}}
    spec:
      containers:
      - name: digits
        image: inpod-test/digits:plain
        command: [gunicorn, --config, gunicorn.conf.py, --bind, "0.0.0.0:8000", "app:app"]
        ports: [{containerPort: 8000}]
        readinessProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 2}
---
apiVersion: v1
kind: Service
metadata: {name: digits}
spec:
  selector: {app: digits}
  ports: [{port: 80, targetPort: 8000}]
`
}
