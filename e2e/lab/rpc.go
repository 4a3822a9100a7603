package lab

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// Fault is an XML-RPC fault as it came over the wire.
type Fault struct {
	Code int
	Text string
}

func (f *Fault) Error() string { return fmt.Sprintf("fault %d %s", f.Code, f.Text) }

// Client is an XML-RPC client for one supervisor.
type Client struct {
	url, user, password string
	http                *http.Client
}

// NewClient takes unix:///path/to.sock or http://host:port. With keep, connections are used again.
func NewClient(url, user, password string, keep bool) *Client {
	c := &Client{url: url, user: user, password: password}
	tr := &http.Transport{DisableKeepAlives: !keep}
	if path, ok := strings.CutPrefix(url, "unix://"); ok {
		c.url = "http://localhost"
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
	}
	c.http = &http.Client{Transport: tr}
	return c
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// GetUntil fetches a path such as /logtail/a: status and body, the whole of it when text is empty, and otherwise, as the answer
// may never end, what had come when it held text.
func (c *Client) GetUntil(ctx context.Context, path string, text []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+path, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("cannot make the request for %q: %w", path, err)
	}
	if len(text) == 0 {
		return c.do(req)
	}
	resp, err := c.send(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	var body []byte
	for buf := make([]byte, 4096); ; {
		n, err := resp.Body.Read(buf)
		if body = append(body, buf[:n]...); bytes.Contains(body, text) || errors.Is(err, io.EOF) {
			return resp.StatusCode, body, nil
		}
		if err != nil {
			return resp.StatusCode, body, err
		}
	}
}

// Call sends one call. The result is made of string, int, bool, float64, nil, []any and
// map[string]any; a fault comes back as *Fault.
func (c *Client) Call(ctx context.Context, method string, args ...any) (any, error) {
	return c.CallRaw(ctx, encodeCall(method, args))
}

// CallRaw posts a body as it is.
func (c *Client) CallRaw(ctx context.Context, body []byte) (any, error) {
	status, data, err := c.Post(ctx, "/RPC2", body)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %d", status)
	}
	return decodeResponse(data)
}

// Post posts a body as it is and returns the answer as it came: status and body.
func (c *Client) Post(ctx context.Context, path string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("cannot make the request for %q: %w", path, err)
	}
	req.Header.Set("Content-Type", "text/xml")
	return c.do(req)
}

// send sends a request with the client's password; the body of the answer is to be closed.
func (c *Client) send(req *http.Request) (*http.Response, error) {
	if c.user != "" {
		req.SetBasicAuth(c.user, c.password)
	}
	return c.http.Do(req)
}

func (c *Client) do(req *http.Request) (int, []byte, error) {
	resp, err := c.send(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, data, err
}

func encodeCall(method string, args []any) []byte {
	var b bytes.Buffer
	b.WriteString("<?xml version='1.0'?>\n<methodCall>\n<methodName>")
	_ = xml.EscapeText(&b, []byte(method))
	b.WriteString("</methodName>\n<params>\n")
	for _, a := range args {
		b.WriteString("<param>\n<value>")
		encodeValue(&b, a)
		b.WriteString("</value>\n</param>\n")
	}
	b.WriteString("</params>\n</methodCall>\n")
	return b.Bytes()
}

func encodeValue(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case string:
		b.WriteString("<string>")
		_ = xml.EscapeText(b, []byte(v))
		b.WriteString("</string>")
	case bool:
		n := 0
		if v {
			n = 1
		}
		fmt.Fprintf(b, "<boolean>%d</boolean>", n)
	case int:
		fmt.Fprintf(b, "<int>%d</int>", v)
	case float64: // JSON's numbers
		if v == float64(int(v)) {
			fmt.Fprintf(b, "<int>%d</int>", int(v))
			return
		}
		fmt.Fprintf(b, "<double>%g</double>", v)
	case []any:
		b.WriteString("<array><data>")
		for _, e := range v {
			b.WriteString("<value>")
			encodeValue(b, e)
			b.WriteString("</value>")
		}
		b.WriteString("</data></array>")
	case map[string]any:
		b.WriteString("<struct>")
		for k, e := range v {
			fmt.Fprintf(b, "<member><name>%s</name><value>", k)
			encodeValue(b, e)
			b.WriteString("</value></member>")
		}
		b.WriteString("</struct>")
	default:
		b.WriteString("<nil/>")
	}
}

// node is one element with what is inside it.
type node struct {
	name string
	text strings.Builder
	kids []*node
}

func (n *node) kid(name string) *node {
	for _, k := range n.kids {
		if k.name == name {
			return k
		}
	}
	return nil
}

func parseXML(data []byte) (*node, error) {
	root := &node{}
	stack := []*node{root}
	dec := xml.NewDecoder(bytes.NewReader(data))
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return root, nil
		}
		if err != nil {
			return nil, fmt.Errorf("cannot parse the answer: %w\n%.300s", err, data)
		}
		top := stack[len(stack)-1]
		switch tok := tok.(type) {
		case xml.StartElement:
			n := &node{name: tok.Name.Local}
			top.kids = append(top.kids, n)
			stack = append(stack, n)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		case xml.CharData:
			top.text.Write(tok)
		}
	}
}

func decodeResponse(data []byte) (any, error) {
	root, err := parseXML(data)
	if err != nil {
		return nil, err
	}
	resp := root.kid("methodResponse")
	if resp == nil {
		return nil, fmt.Errorf("no methodResponse in the answer: %.300s", data)
	}
	if f := resp.kid("fault"); f != nil {
		m, _ := decodeValue(f.kid("value")).(map[string]any)
		code, _ := m["faultCode"].(int)
		text, _ := m["faultString"].(string)
		return nil, &Fault{Code: code, Text: text}
	}
	params := resp.kid("params")
	if params == nil || params.kid("param") == nil {
		return nil, fmt.Errorf("no param in the answer: %.300s", data)
	}
	return decodeValue(params.kid("param").kid("value")), nil
}

func decodeValue(n *node) any {
	if n == nil {
		return nil
	}
	if len(n.kids) == 0 {
		return n.text.String()
	}
	v := n.kids[0]
	text := v.text.String()
	switch v.name {
	case "string":
		return text
	case "int", "i4", "i8":
		i, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			return "bad int " + text
		}
		return i
	case "boolean":
		return strings.TrimSpace(text) == "1"
	case "double":
		f, _ := strconv.ParseFloat(strings.TrimSpace(text), 64)
		return f
	case "nil":
		return nil
	case "array":
		out := []any{}
		if d := v.kid("data"); d != nil {
			for _, k := range d.kids {
				out = append(out, decodeValue(k))
			}
		}
		return out
	case "struct":
		out := map[string]any{}
		for _, m := range v.kids {
			if name := m.kid("name"); name != nil {
				out[name.text.String()] = decodeValue(m.kid("value"))
			}
		}
		return out
	}
	return "unknown element " + v.name
}
