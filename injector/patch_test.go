package injector

import (
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
)

// TestPatchOfEveryCase also holds that the patch does not touch what our types do not know.
func TestPatchOfEveryCase(t *testing.T) {
	for _, file := range cases(t) {
		set, pod := readCase(t, file)
		checkMutation(t, pod, set)
	}
}

func TestPatchLeavesTheUnknownAlone(t *testing.T) {
	set, pod := readCase(t, "testdata/service-mesh.in.yaml")
	got, _, err := Mutate(t.Context(), pod, set)
	if err != nil {
		t.Fatal(err)
	}
	ops, err := Patch(pod, got)
	if err != nil {
		t.Fatal(err)
	}
	raw := []byte(`{"metadata":{"labels":{"inpod.dev/inject":"wrap"},"annotations":{"inpod.dev/direct-port":"16090"}},"spec":{"fromTheFuture":1,` +
		`"initContainers":[{"name":"istio-init","image":"istio","future":2}],` +
		`"containers":[{"name":"web","image":"w","command":["web"],"future":3,"ports":[{"name":"http","containerPort":8000,"future":4}]},` +
		`{"name":"istio-proxy","image":"istio","future":5,"ports":[{"name":"http-envoy-prom","containerPort":15090}]}]}}`)
	patch, err := jsonpatch.DecodePatch(marshal(t, ops))
	if err != nil {
		t.Fatal(err)
	}
	out, err := patch.Apply(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []string{
		`[{"op":"test","path":"/spec/fromTheFuture","value":1}]`,
		`[{"op":"test","path":"/spec/initContainers/0/future","value":2}]`,
		`[{"op":"test","path":"/spec/containers/0/future","value":3}]`,
		`[{"op":"test","path":"/spec/containers/0/ports/0/future","value":4}]`,
		`[{"op":"test","path":"/spec/containers/1/future","value":5}]`,
		`[{"op":"test","path":"/spec/containers/0/command/0","value":"/opt/inpod/inpod"}]`,
	} {
		check, err := jsonpatch.DecodePatch([]byte(op))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := check.Apply(out); err != nil {
			t.Errorf("%s: %v in %s", op, err, out)
		}
	}
}
