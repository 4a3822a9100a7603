// Package examples holds runnable examples, one a folder, each with a README. Its tests run every one of them from
// outside, the way their READMEs say.
package examples
