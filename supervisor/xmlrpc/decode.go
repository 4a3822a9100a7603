package xmlrpc

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/inpod/inpod/supervisor"
)

const (
	maxDepth   = 32 // of arrays and structs in each other
	timeLayout = "20060102T15:04:05"
)

// ParseCall decodes a request. It is as lenient as Supervisor: <params> may be absent, a value without a type is a string.
// Values come as nil, bool, int, float64, string (base64 too), time.Time, []any and map[string]any.
func ParseCall(data []byte) (method string, params []any, err error) {
	p := newParser(data)
	root, err := p.start()
	if err != nil {
		return "", nil, fmt.Errorf("cannot parse a request: %w", err)
	}
	if root.Name.Local != "methodCall" {
		return "", nil, fmt.Errorf("cannot parse a request: <%s> in place of <methodCall>", root.Name.Local)
	}
	err = p.children(func(name string) error {
		switch name {
		case "methodName":
			method, err = p.text()
			return err
		case "params":
			params, err = p.params()
			return err
		}
		return p.d.Skip()
	})
	if err != nil {
		return "", nil, fmt.Errorf("cannot parse a request: %w", err)
	}
	return strings.TrimSpace(method), params, p.end()
}

// ParseResponse decodes a response; the error is a *supervisor.Fault when it carries one.
func ParseResponse(data []byte) (any, error) {
	p := newParser(data)
	root, err := p.start()
	if err != nil {
		return nil, fmt.Errorf("cannot parse a response: %w", err)
	}
	if root.Name.Local != "methodResponse" {
		return nil, fmt.Errorf("cannot parse a response: <%s> in place of <methodResponse>", root.Name.Local)
	}
	var values []any
	var fault *supervisor.Fault
	err = p.children(func(name string) error {
		switch name {
		case "params":
			values, err = p.params()
			return err
		case "fault":
			return p.children(func(string) error {
				v, err := p.value(0)
				fault = toFault(v)
				return err
			})
		}
		return p.d.Skip()
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot parse a response: %w", err)
	case fault != nil:
		return nil, fault
	case len(values) != 1:
		return nil, fmt.Errorf("cannot parse a response: %d values in place of one", len(values))
	}
	return values[0], p.end()
}

// toFault turns Supervisor's text back into its detail.
func toFault(v any) *supervisor.Fault {
	s, _ := v.(map[string]any)
	code, _ := s["faultCode"].(int)
	text, _ := s["faultString"].(string)
	f := &supervisor.Fault{Code: supervisor.FaultCode(code)}
	name := f.Code.String()
	if rest, ok := strings.CutPrefix(text, name+": "); ok {
		f.Detail = rest
	} else if text != name {
		f.Detail = text
	}
	return f
}

type parser struct{ d *xml.Decoder }

func newParser(data []byte) *parser {
	d := xml.NewDecoder(bytes.NewReader(data))
	// Like Supervisor, take everything for UTF-8 whatever the declaration says.
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	return &parser{d}
}

// start returns the next start tag.
func (p *parser) start() (xml.StartElement, error) {
	for {
		tok, err := p.d.Token()
		if err != nil {
			return xml.StartElement{}, err
		}
		if s, ok := tok.(xml.StartElement); ok {
			return s, nil
		}
		if c, ok := tok.(xml.CharData); ok && len(bytes.TrimSpace(c)) > 0 {
			return xml.StartElement{}, fmt.Errorf("text outside an element")
		}
	}
}

// end checks that nothing follows.
func (p *parser) end() error {
	if _, err := p.start(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("cannot parse what follows the message")
	}
	return nil
}

// children calls do for each child of the element that was entered; do consumes the child up to its end tag.
func (p *parser) children(do func(name string) error) error {
	for {
		tok, err := p.d.Token()
		if err != nil {
			return err
		}
		switch t := tok.(type) {
		case xml.StartElement:
			if err := do(t.Name.Local); err != nil {
				return err
			}
		case xml.EndElement:
			return nil
		}
	}
}

// text returns the text of the element that was entered, which has no children.
func (p *parser) text() (string, error) {
	var b strings.Builder
	for {
		tok, err := p.d.Token()
		if err != nil {
			return "", err
		}
		switch t := tok.(type) {
		case xml.CharData:
			b.Write(t)
		case xml.StartElement:
			return "", fmt.Errorf("<%s> inside a text", t.Name.Local)
		case xml.EndElement:
			return b.String(), nil
		}
	}
}

func (p *parser) params() ([]any, error) {
	params := []any{}
	err := p.children(func(string) error {
		var v any
		found := false
		err := p.children(func(name string) (err error) {
			if name != "value" || found {
				return fmt.Errorf("<%s> where one <value> belongs", name)
			}
			found = true
			v, err = p.value(0)
			return err
		})
		if err == nil && !found {
			err = errors.New("a parameter without <value>")
		}
		params = append(params, v)
		return err
	})
	return params, err
}

// value decodes the <value> that was entered.
func (p *parser) value(depth int) (v any, err error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("values are nested more than %d deep", maxDepth)
	}
	var bare strings.Builder
	typed := false
	for {
		tok, err := p.d.Token()
		if err != nil {
			return nil, err
		}
		switch t := tok.(type) {
		case xml.CharData:
			bare.Write(t)
		case xml.StartElement:
			if typed {
				return nil, fmt.Errorf("<%s> is a second type in one <value>", t.Name.Local)
			}
			typed = true
			if v, err = p.typed(t.Name.Local, depth); err != nil {
				return nil, err
			}
		case xml.EndElement:
			if !typed {
				return bare.String(), nil
			}
			return v, nil
		}
	}
}

// typed decodes the element inside a <value>.
func (p *parser) typed(name string, depth int) (any, error) {
	switch name {
	case "array":
		return p.array(depth)
	case "struct":
		return p.structure(depth)
	}
	text, err := p.text()
	if err != nil {
		return nil, err
	}
	trimmed := strings.TrimSpace(text)
	switch name {
	case "string":
		return text, nil
	case "int", "i4", "i8":
		n, err := strconv.Atoi(trimmed)
		if err != nil {
			return nil, fmt.Errorf("<%s> is no whole number: %.40q", name, text)
		}
		return n, nil
	case "boolean":
		return trimmed == "1", nil
	case "double":
		f, err := strconv.ParseFloat(trimmed, 64)
		if err != nil {
			return nil, fmt.Errorf("<double> is no number: %.40q", text)
		}
		return f, nil
	case "dateTime.iso8601":
		when, err := time.Parse(timeLayout, trimmed)
		if err != nil {
			return nil, fmt.Errorf("<dateTime.iso8601> is no time: %.40q", text)
		}
		return when, nil
	case "base64":
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
		if err != nil {
			return nil, fmt.Errorf("<base64>: %w", err)
		}
		return string(data), nil
	case "nil":
		return nil, nil
	}
	return nil, fmt.Errorf("<%s> is no type", name)
}

func (p *parser) array(depth int) (any, error) {
	values := []any{}
	err := p.children(func(name string) error {
		if name != "data" {
			return fmt.Errorf("<%s> where <data> belongs", name)
		}
		return p.children(func(name string) error {
			if name != "value" {
				return fmt.Errorf("<%s> where <value> belongs", name)
			}
			v, err := p.value(depth + 1)
			values = append(values, v)
			return err
		})
	})
	return values, err
}

func (p *parser) structure(depth int) (any, error) {
	fields := map[string]any{}
	err := p.children(func(name string) error {
		if name != "member" {
			return fmt.Errorf("<%s> where <member> belongs", name)
		}
		var key string
		var v any
		err := p.children(func(name string) (err error) {
			switch name {
			case "name":
				key, err = p.text()
			case "value":
				v, err = p.value(depth + 1)
			default:
				err = fmt.Errorf("<%s> in a <member>", name)
			}
			return err
		})
		fields[key] = v
		return err
	})
	return fields, err
}
