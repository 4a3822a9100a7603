// Package archtest holds the architecture as a test: which package may import which (table_test.go), and who owns
// what nobody else may touch (rules_test.go, state_test.go). To change the architecture, change the table, and say
// why on a page in docs/decisions.
package archtest
