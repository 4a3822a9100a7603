// Package images tests the images in real containers: people log in to them, call them, stop them and break them.
//
// Run with make e2e-images, as root: the tests have the build tag images, so that go test ./... needs no Docker. They
// start Debian's dockerd where none runs, build the images of images/ with hack/images.sh and stop what they started.
//
// A test takes an image with build, starts it with start and looks at it through the container's own address:
//
//	image := build(t, "digits")
//	c := start(t, image, "--read-only", "--tmpfs", "/run", "--", "command", "arg")
//	c.ready()
//	code, body := c.get(9880, "/health")
//	c.exec("inpod", "ctl", "status")
//	c.ssh("root", "id", "-u")
//	code, took := c.stop(20 * time.Second)
//
// The rules that images follow are in images/README.md, and why things are so in docs/decisions/104-images.md.
package images
