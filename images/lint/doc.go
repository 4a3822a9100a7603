// Command lint holds the images against the rules of images/README.md.
//
//	go run ./images/lint [-static] [NAME…]
//
// It reads the Dockerfiles and what they copy, and then, unless -static says otherwise, the images that were built from
// them: their configuration, their history and every file of every layer, also those that a later layer deleted. Each
// fault is a line "file:line: what is wrong, and what to do". Exit code 1: there are faults; 2: it could not look.
//
// Enter at static (files) and built (images). It builds nothing and starts nothing.
package main
