package xmlrpc

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/inpod/inpod/supervisor"
)

func TestMarshalAsPython(t *testing.T) {
	values := []any{
		true, false, 0, -5, 2147483647, "", "plain", "a <b> & \"c\" 'd' ü 漢\n\t",
		[]any{},
		[]any{1, "two", []any{true}},
		map[string]any{},
		map[string]any{"a": 1, "b": map[string]any{"c": []any{}}},
		1.5,
	}
	var want struct{ Out []string }
	askPeer(t, map[string]any{"do": "dump", "values": values}, &want)
	for i, v := range values {
		got, err := Marshal(v)
		if err != nil || string(got) != want.Out[i] {
			t.Errorf("Marshal(%v) = %q, %v; Python: %q", v, got, err, want.Out[i])
		}
	}
}

func TestMarshalFaultAsSupervisor(t *testing.T) {
	faults := []*supervisor.Fault{{Code: supervisor.BadName, Detail: "foo"}, {Code: supervisor.UnknownMethod}, {Code: supervisor.CantReread, Detail: "a <b>"}}
	var pairs []any
	for _, f := range faults {
		var detail any
		if f.Detail != "" {
			detail = f.Detail
		}
		pairs = append(pairs, []any{f.Code, detail})
	}
	var want struct{ Out []string }
	askPeer(t, map[string]any{"do": "fault", "faults": pairs}, &want)
	for i, f := range faults {
		if got := string(MarshalFault(f)); got != want.Out[i] {
			t.Errorf("MarshalFault(%v) = %q, Supervisor: %q", f, got, want.Out[i])
		}
	}
}

func TestParseCall(t *testing.T) {
	value := func(v string) string {
		return "<?xml version='1.0' encoding='latin-1'?>\n<methodCall><methodName> a.b </methodName><params><param>" + v + "</param></params></methodCall>"
	}
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct {
		in   string
		want any
	}{
		{"<value>bare &amp; text</value>", "bare & text"},
		{"<value></value>", ""},
		{"<value><string> s </string></value>", " s "},
		{"<value> <int> 7 </int> </value>", 7},
		{"<value><i4>-7</i4></value>", -7},
		{"<value><i8>9000000000</i8></value>", 9000000000},
		{"<value><boolean>1</boolean></value>", true},
		{"<value><boolean>0</boolean></value>", false},
		{"<value><double>1.5</double></value>", 1.5},
		{"<value><base64>aGVs\nbG8=</base64></value>", "hello"},
		{"<value><dateTime.iso8601>20260102T03:04:05</dateTime.iso8601></value>", when},
		{"<value><nil/></value>", nil},
		{"<value><array><data><value>x</value><value><int>1</int></value></data></array></value>", []any{"x", 1}},
		{"<value><struct><member><name>k</name><value>v</value></member></struct></value>", map[string]any{"k": "v"}},
		{"<value><![CDATA[<x>]]><!-- c --></value>", "<x>"},
	} {
		method, params, err := ParseCall([]byte(value(tc.in)))
		if diff := cmp.Diff([]any{tc.want}, params); err != nil || method != "a.b" || diff != "" {
			t.Errorf("%s: %q, %v\n%s", tc.in, method, err, diff)
		}
	}
	if method, params, err := ParseCall([]byte("<methodCall><methodName>x</methodName></methodCall>")); err != nil || method != "x" || params != nil {
		t.Errorf("without params: %q, %v, %v", method, params, err)
	}
	for _, bad := range []string{
		"", "<", "plain", "<methodResponse/>", "<methodCall>", "<methodCall></methodCal>", "<methodCall/><methodCall/>", "<methodCall/>x",
		value(""), value("<x/>"), value("<value>1</value><value>2</value>"), value("<value><int>1</int><int>2</int></value>"),
		value("<value><int>1.5</int></value>"), value("<value><int>99999999999999999999</int></value>"), value("<value><double>x</double></value>"),
		value("<value><base64>!</base64></value>"), value("<value><dateTime.iso8601>now</dateTime.iso8601></value>"), value("<value><other>1</other></value>"),
		value("<value><array><value/></array></value>"), value("<value><array><data><x/></data></array></value>"), value("<value><struct><x/></struct></value>"),
		value("<value><struct><member><x/></member></struct></value>"), value("<value>&unknown;</value>"),
		value(strings.Repeat("<value><array><data>", 100) + strings.Repeat("</data></array></value>", 100)),
		`<!DOCTYPE x [<!ENTITY a "b">]><methodCall><methodName>&a;</methodName></methodCall>`,
	} {
		if method, params, err := ParseCall([]byte(bad)); err == nil {
			t.Errorf("ParseCall(%.80q) = %q, %v; want an error", bad, method, params)
		}
	}
}

// Whatever a log holds, the answer is well-formed.
func TestAnyTextIsWellFormed(t *testing.T) {
	var all []byte
	for i := range 256 {
		all = append(all, byte(i))
	}
	text := string(all) + "\xed\xa0\x80 \ufffe \uffff \x1b[31mred\x1b[0m ]]> 漢"
	data, err := Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(data)); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	var answer struct{ Out []any }
	f := newFake(t)
	f.write(t, text)
	askPeer(t, map[string]any{"do": "call", "url": serveTCP(t, Options{Supervisor: f}), "calls": []any{[]any{"supervisor.readProcessStdoutLog", []any{"app:web", 0, 0}}}}, &answer)
	got, _ := answer.Out[0].([]any)[0].(string)
	if !strings.Contains(got, "\uFFFD[31mred") || !strings.HasSuffix(got, "漢") {
		t.Errorf("Python reads %q", got)
	}
}

func FuzzParseCall(f *testing.F) {
	good, _ := MarshalCall("supervisor.x", []any{1, "a", true, 1.5, nil, []byte("x"), []any{"y"}, map[string]any{"k": "v"}})
	f.Add(good)
	f.Add([]byte("<methodCall><methodName>x</methodName><params><param><value>x</value></param></params></methodCall>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		method, params, err := ParseCall(data)
		if err != nil {
			return
		}
		again, err := MarshalCall(method, params)
		if err != nil {
			return // a NaN
		}
		if _, _, err := ParseCall(again); err != nil {
			t.Fatalf("%q does not parse again: %v", again, err)
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	good, _ := Marshal([]any{"x", 1, Struct{{"a", true}}})
	f.Add(good)
	f.Add(MarshalFault(&supervisor.Fault{Code: supervisor.BadName, Detail: "x"}))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = ParseResponse(data) })
}

func FuzzText(f *testing.F) {
	f.Add("a\x00b<c>&\xff")
	f.Fuzz(func(t *testing.T, s string) {
		data, err := Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseResponse(data); err != nil {
			t.Fatalf("%q: %v", data, err)
		}
	})
}
