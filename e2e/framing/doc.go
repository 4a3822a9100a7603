// Package framing holds what the framing test is made of: cases, which are raw requests with what must become of them
// (Load), and an upstream that writes down what reaches it (Echo). How a case is written is said in
// ../testdata/framing/README.md.
package framing
