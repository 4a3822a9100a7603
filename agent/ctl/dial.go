package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/inpod/inpod/supervisor"
	"github.com/inpod/inpod/supervisor/ini"
	"github.com/inpod/inpod/supervisor/xmlrpc"
)

const (
	maxAdminBody   = 1 << 20
	connectTimeout = time.Second
)

// Dial makes the Server for unix:///path or http://host:port. It connects with the first call.
func Dial(serverURL, username, password string) (Server, error) {
	path, unix := strings.CutPrefix(serverURL, "unix://")
	if !unix && !strings.HasPrefix(serverURL, "http://") {
		return nil, &URLError{URL: serverURL}
	}
	rpc, err := xmlrpc.NewClient(serverURL, username, password)
	if err != nil {
		return nil, err
	}
	r := &remote{rpc: rpc, base: serverURL, username: username, password: password, http: http.DefaultClient}
	if unix {
		r.base = "http://localhost"
		var dialer net.Dialer
		r.http = &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, "unix", path) },
		}}
	}
	return r, nil
}

// remote puts the two protocols of a server behind the Server interface.
type remote struct {
	rpc                      *xmlrpc.Client
	base, username, password string
	token                    string // a bearer token, used where there is no user
	http                     *http.Client
}

// DialAdmin reaches an agent through its admin address, http://host:port, for the actions that are no XML-RPC. What
// changes something needs the token of admin.token_file; an empty one sends none.
func DialAdmin(url, token string) AdminAPI {
	return &remote{base: url, token: token, http: http.DefaultClient}
}

func (r *remote) Call(ctx context.Context, method string, args ...any) (any, error) {
	v, err := r.rpc.Call(ctx, method, args...)
	return v, ownError(err)
}

func (r *remote) Stream(ctx context.Context, path string) (io.ReadCloser, error) {
	body, err := r.rpc.Stream(ctx, path)
	return body, ownError(err)
}

// ownError turns the client's errors into those that Server promises.
func ownError(err error) error {
	var fault *supervisor.Fault
	var status *xmlrpc.StatusError
	switch {
	case errors.As(err, &fault):
		return &Fault{Code: fault.Code, Text: fault.Error()}
	case errors.As(err, &status):
		return &HTTPError{Status: status.Code, Reason: status.Reason}
	}
	return err
}

func (r *remote) Admin(ctx context.Context, method, path string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("cannot ask for %s: %w", path, err)
	}
	if r.username != "" || r.password != "" {
		req.SetBasicAuth(r.username, r.password)
	} else if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // the URL of a socket says nothing
		}
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAdminBody))
	return resp.StatusCode, body, err
}

// ReadConfig fills the options with the [supervisorctl] section of a supervisord.conf. found is false when it has none.
func (o *Options) ReadConfig(path string, env map[string]string) (found bool, err error) {
	if _, err := os.Stat(path); err != nil {
		return false, err
	}
	c, found, err := ini.LoadCtl(path, env)
	if err != nil || !found {
		return false, err
	}
	o.ServerURL, o.Username, o.Password = c.ServerURL, c.Username, c.Password
	o.Prompt, o.HistoryFile = c.Prompt, c.HistoryFile
	return true, nil
}

// ControlSocket picks the socket that an agent answers on, of the paths where it may be; without an
// answer the first that exists, else the first.
func ControlSocket(paths []string) string {
	exists := ""
	for _, path := range paths {
		conn, err := net.DialTimeout("unix", path, connectTimeout)
		if err == nil {
			conn.Close()
			return path
		}
		if _, serr := os.Lstat(path); serr == nil && exists == "" {
			exists = path
		}
	}
	switch {
	case exists != "":
		return exists
	case len(paths) > 0:
		return paths[0]
	}
	return ""
}
