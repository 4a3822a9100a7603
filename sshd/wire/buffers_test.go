package wire

import "testing"

func TestLargeBuffersAreBounded(t *testing.T) {
	w := New()
	var lent []*[LargeSize]byte
	for range largeMost {
		lent = append(lent, w.Large())
	}
	if w.Large() != nil {
		t.Errorf("there are more than %d", largeMost)
	}
	for _, b := range lent {
		if b == nil {
			t.Fatalf("there are fewer than %d", largeMost)
		}
		w.Return(b)
	}
	w.Return(nil)
	if w.Large() == nil {
		t.Error("what was returned is not lent again")
	}
}
