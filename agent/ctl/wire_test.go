package ctl

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/inpod/inpod/supervisor"
)

// wireServer is a Server of its own for the tests: the smallest XML-RPC client there can be, so that
// what the actions print is not judged by the codec that inpod's own server shares.
type wireServer struct {
	base, user, password string
	client               *http.Client
}

func dialWire(url, user, password string) (Server, error) {
	s := &wireServer{base: url, user: user, password: password}
	// Not DisableKeepAlives: with "Connection: close" Python's supervisord holds a log stream back for ever.
	transport := &http.Transport{IdleConnTimeout: time.Millisecond}
	if path, ok := strings.CutPrefix(url, "unix://"); ok {
		s.base = "http://localhost"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
	} else if !strings.HasPrefix(url, "http://") {
		return nil, &URLError{URL: url}
	}
	s.client = &http.Client{Transport: transport}
	return s, nil
}

func (s *wireServer) do(ctx context.Context, method, path, body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "text/xml")
	}
	if s.user != "" || s.password != "" {
		req.SetBasicAuth(s.user, s.password)
	}
	return s.client.Do(req)
}

func (s *wireServer) Call(ctx context.Context, method string, args ...any) (any, error) {
	var b bytes.Buffer
	b.WriteString("<?xml version='1.0'?><methodCall><methodName>" + method + "</methodName><params>")
	for _, a := range args {
		b.WriteString("<param><value>")
		switch a := a.(type) {
		case string:
			b.WriteString("<string>")
			_ = xml.EscapeText(&b, []byte(a))
			b.WriteString("</string>")
		case int:
			fmt.Fprintf(&b, "<int>%d</int>", a)
		default:
			return nil, fmt.Errorf("BUG: argument of type %T", a)
		}
		b.WriteString("</value></param>")
	}
	b.WriteString("</params></methodCall>")
	resp, err := s.do(ctx, http.MethodPost, "/RPC2", b.String())
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &HTTPError{Status: resp.StatusCode, Reason: http.StatusText(resp.StatusCode)}
	}
	d := xml.NewDecoder(resp.Body)
	isFault := false
	for {
		tok, err := d.Token()
		if err != nil {
			return nil, err
		}
		start, ok := tok.(xml.StartElement)
		switch {
		case ok && start.Name.Local == "fault":
			isFault = true
		case ok && start.Name.Local == "value":
			v, err := decodeValue(d)
			if m, ok := v.(map[string]any); ok && isFault {
				return nil, &Fault{Code: supervisor.FaultCode(m["faultCode"].(int)), Text: m["faultString"].(string)}
			}
			return v, err
		}
	}
}

// decodeValue reads up to the end of <value>, which has just begun.
func decodeValue(d *xml.Decoder) (any, error) {
	var out any
	text := ""
	for {
		tok, err := d.Token()
		if err != nil {
			return nil, err
		}
		switch tok := tok.(type) {
		case xml.CharData:
			text += string(tok)
		case xml.EndElement:
			if out == nil {
				return text, nil
			}
			return out, nil
		case xml.StartElement:
			if out, err = decodeTyped(d, tok); err != nil {
				return nil, err
			}
		}
	}
}

func decodeTyped(d *xml.Decoder, start xml.StartElement) (any, error) {
	switch start.Name.Local {
	case "struct":
		return decodeStruct(d)
	case "array":
		return decodeArray(d)
	}
	var text string
	if err := d.DecodeElement(&text, &start); err != nil {
		return nil, err
	}
	switch start.Name.Local {
	case "int", "i4", "i8":
		return strconv.Atoi(strings.TrimSpace(text))
	case "boolean":
		return strings.TrimSpace(text) == "1", nil
	}
	return text, nil
}

func decodeStruct(d *xml.Decoder) (any, error) {
	out, name := map[string]any{}, ""
	for {
		tok, err := d.Token()
		if err != nil {
			return nil, err
		}
		switch tok := tok.(type) {
		case xml.EndElement:
			if tok.Name.Local == "struct" {
				return out, nil
			}
		case xml.StartElement:
			switch tok.Name.Local {
			case "name":
				if err := d.DecodeElement(&name, &tok); err != nil {
					return nil, err
				}
			case "value":
				if out[name], err = decodeValue(d); err != nil {
					return nil, err
				}
			}
		}
	}
}

func decodeArray(d *xml.Decoder) (any, error) {
	out := []any{}
	for {
		tok, err := d.Token()
		if err != nil {
			return nil, err
		}
		switch tok := tok.(type) {
		case xml.EndElement:
			if tok.Name.Local == "array" {
				return out, nil
			}
		case xml.StartElement:
			if tok.Name.Local == "value" {
				v, err := decodeValue(d)
				if err != nil {
					return nil, err
				}
				out = append(out, v)
			}
		}
	}
}

func (s *wireServer) Stream(ctx context.Context, path string) (io.ReadCloser, error) {
	resp, err := s.do(ctx, http.MethodGet, path, "")
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, &HTTPError{Status: resp.StatusCode, Reason: http.StatusText(resp.StatusCode)}
	}
	return resp.Body, nil
}

func (s *wireServer) Admin(ctx context.Context, method, path string) (int, []byte, error) {
	resp, err := s.do(ctx, method, path, "")
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, body, err
}
