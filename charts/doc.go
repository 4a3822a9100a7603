// Package charts tests the Helm charts beside it: values against schema and README, dashboards against metrics, and,
// with the build tag chart, what the real helm makes of them.
package charts
