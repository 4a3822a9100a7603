// Package injector puts inpod into pods whose images know nothing of it.
//
// Mutate is the heart: a pod and the settings go in, the changed pod and a report come out, and nothing else happens;
// it opens no connection but through the Images and ConfigMaps that it is given. What users may write is one table
// (settings.go), why a pod is refused another (reasons.go). Around it are Server, the admission webhook;
// Certificates, which keeps its certificate; Registry, which looks up what an image starts; Inject and Explain,
// which do the same to files; and Redirect, the program of the init container that takes a port over.
//
// A pod is read whole and changed little: only what the report names. Objects are never built from templates of text.
package injector
