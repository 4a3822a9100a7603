package injector

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	// lookupTimeout leaves of the webhook's 5 s what the rest needs.
	lookupTimeout = 3500 * time.Millisecond
	// tagTime is how long a tag is believed to mean the same digest, and a failure to be one still.
	tagTime, failTime = time.Minute, 5 * time.Second
	// maxAnswer bounds a registry's answer: a manifest has kilobytes, a config with a long history some hundred.
	maxAnswer = 4 << 20
	maxCached = 4096
	// maxLookups bounds what is asked at the same time, maxOfHost of one registry: one that hangs does not hold up the others.
	maxLookups, maxOfHost = 16, 4
)

// Registry looks up what an image starts, in the registry that its name says.
type Registry struct {
	// Allow lists patterns of registry hosts that may be asked, such as *.example.com. Empty: every host.
	Allow []string
	// Local lets addresses of this machine and of its link be asked. Else they are refused: whoever names an
	// image could have the injector talk to what only it can reach.
	Local bool
	// CA, when set, makes the transport; for tests and for registries with their own authority.
	Transport *http.Transport

	timeout time.Duration // of a lookup; 0: lookupTimeout

	once  sync.Once
	slots chan struct{}
	rt    http.RoundTripper

	asking flights[Image] // by the same key as tags: a hundred pods of one new image ask once

	mu      sync.Mutex
	hosts   map[string]*host  // that are being asked
	tags    map[string]tagged // by name and credentials
	configs map[v1.Hash]Image // by the digest of the manifest
}

// host is one registry that is being asked, or waited for.
type host struct {
	slots chan struct{}
	users int
}

type tagged struct {
	image Image
	err   error
	until time.Time
}

func (r *Registry) start() {
	r.timeout = cmp.Or(r.timeout, lookupTimeout)
	r.slots = make(chan struct{}, maxLookups)
	r.tags, r.configs, r.hosts = map[string]tagged{}, map[v1.Hash]Image{}, map[string]*host{}
	t := r.Transport
	if t == nil {
		t = http.DefaultTransport.(*http.Transport).Clone()
	}
	if !r.Local {
		dialer := &net.Dialer{Timeout: r.timeout, Control: refuseLocal}
		t.DialContext = dialer.DialContext
	}
	r.rt = bounded{t}
}

// With returns the registry as it is for a pod with these credentials.
func (r *Registry) With(keys authn.Keychain) Images { return withKeys{r, keys} }

type withKeys struct {
	registry *Registry
	keys     authn.Keychain
}

// Image is Images'.
func (w withKeys) Image(ctx context.Context, ref string) (Image, error) {
	return w.registry.lookup(ctx, ref, w.keys)
}

// lookup asks for the digest with the pod's own credentials, so that nobody learns of an image which he may not pull,
// and takes the config from the cache when that digest was looked at before.
func (r *Registry) lookup(ctx context.Context, text string, keys authn.Keychain) (Image, error) {
	r.once.Do(r.start)
	ref, err := name.ParseReference(text)
	if err != nil {
		return Image{}, fmt.Errorf("cannot read the image's name: %s", clipLong(err.Error()))
	}
	if !r.allowed(ref.Context().RegistryStr()) {
		return Image{}, fmt.Errorf("the injector may not ask the registry %s", ref.Context().RegistryStr())
	}
	auth, err := keys.Resolve(ref.Context())
	if err != nil {
		return Image{}, err
	}
	config, err := auth.Authorization()
	if err != nil {
		return Image{}, err
	}
	key := ref.Name() + " " + fmt.Sprintf("%x", sha256.Sum256([]byte(jsonText(config))))
	if t, ok := r.cached(key); ok {
		return t.image, t.err
	}
	parent := ctx
	ctx, cancel := context.WithTimeout(parent, r.timeout)
	defer cancel()
	image, err := r.asking.do(ctx, key, func() (Image, error) {
		if t, ok := r.cached(key); ok {
			return t.image, t.err
		}
		free, ok := r.slot(ctx, ref.Context().RegistryStr())
		defer free()
		if !ok {
			return Image{}, errors.New("too many images are being looked up")
		}
		image, err := r.ask(ctx, ref, auth)
		if err != nil {
			err = r.explain(ctx, ref, err)
		}
		if parent.Err() == nil { // else it says nothing about the registry
			r.keep(key, image, err)
		}
		return image, err
	})
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) { // while another one asked
		err = r.explain(ctx, ref, err)
	}
	return image, err
}

// slot waits for the turn to ask a registry; free ends it, also where it never came.
func (r *Registry) slot(ctx context.Context, name string) (free func(), ok bool) {
	r.mu.Lock()
	h := r.hosts[name]
	if h == nil {
		h = &host{slots: make(chan struct{}, maxOfHost)}
		r.hosts[name] = h
	}
	h.users++
	r.mu.Unlock()
	var held []chan struct{}
	free = func() {
		for _, slots := range held {
			<-slots
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if h.users--; h.users == 0 {
			delete(r.hosts, name)
		}
	}
	for _, slots := range []chan struct{}{h.slots, r.slots} { // the registry's own first: whoever waits for it takes no other's
		select {
		case slots <- struct{}{}:
			held = append(held, slots)
		case <-ctx.Done():
			return free, false
		}
	}
	return free, true
}

func (r *Registry) allowed(host string) bool {
	for _, pattern := range r.Allow {
		if ok, err := path.Match(pattern, host); err == nil && ok {
			return true
		}
	}
	return len(r.Allow) == 0
}

func (r *Registry) cached(key string) (tagged, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.tags[key]
	return t, ok && time.Now().Before(t.until)
}

func (r *Registry) keep(key string, image Image, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.tags { // any of them: what is thrown away is asked for again
		if len(r.tags) < maxCached {
			break
		}
		delete(r.tags, k)
	}
	t := tagged{image: image, err: err, until: time.Now().Add(tagTime)}
	if err != nil {
		t.until = time.Now().Add(failTime)
	}
	r.tags[key] = t
}

func (r *Registry) ask(ctx context.Context, ref name.Reference, auth authn.Authenticator) (Image, error) {
	options := []remote.Option{
		remote.WithContext(ctx), remote.WithAuth(auth), remote.WithTransport(r.rt), remote.WithUserAgent("inpod-injector"),
		remote.WithRetryBackoff(remote.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Steps: 2}),
		remote.WithRetryStatusCodes(http.StatusBadGateway, http.StatusServiceUnavailable),
	}
	var digest v1.Hash
	if head, err := remote.Head(ref, options...); err == nil {
		digest = head.Digest
		if image, ok := r.known(digest); ok {
			return image, nil
		}
	} // some registries answer no HEAD; GET says what is wrong with the others
	got, err := remote.Get(ref, options...)
	if err != nil {
		return Image{}, err
	}
	digest = got.Digest
	if image, ok := r.known(digest); ok {
		return image, nil
	}
	found, err := pick(got)
	if err != nil {
		return Image{}, err
	}
	file, err := found.ConfigFile()
	if err != nil {
		return Image{}, err
	}
	image := Image{
		Digest: digest.String(), Entrypoint: file.Config.Entrypoint, Cmd: file.Config.Cmd, User: file.Config.User, StopSignal: file.Config.StopSignal,
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.configs {
		if len(r.configs) < maxCached {
			break
		}
		delete(r.configs, k)
	}
	r.configs[digest] = image
	return image, nil
}

func (r *Registry) known(digest v1.Hash) (Image, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	image, ok := r.configs[digest]
	return image, ok
}

// pick takes one Linux image of an index: which node the pod will run on is not known yet, and images for several
// platforms start the same command.
func pick(d *remote.Descriptor) (v1.Image, error) {
	if d.MediaType != types.OCIImageIndex && d.MediaType != types.DockerManifestList {
		return d.Image()
	}
	index, err := d.ImageIndex()
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	best := v1.Hash{}
	for _, m := range manifest.Manifests {
		if m.Platform == nil || m.Platform.OS != "linux" {
			continue
		}
		if best.Hex == "" || m.Platform.Architecture == "amd64" {
			best = m.Digest
		}
	}
	if best.Hex == "" {
		return nil, errors.New("the image is not for Linux")
	}
	return index.Image(best)
}

// explain says in one line what a registry's error means.
func (r *Registry) explain(ctx context.Context, ref name.Reference, err error) error {
	var te *transport.Error
	host := ref.Context().RegistryStr()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the registry %s did not answer within %s", host, r.timeout)
	case errors.As(err, &te) && (te.StatusCode == http.StatusUnauthorized || te.StatusCode == http.StatusForbidden):
		return fmt.Errorf("the registry %s refuses the pull secrets of the pod and of its service account", host)
	case errors.As(err, &te) && te.StatusCode == http.StatusNotFound:
		return fmt.Errorf("the registry %s does not have it", host)
	}
	return fmt.Errorf("the registry %s: %s", host, clipLong(err.Error()))
}

func clipLong(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 300 {
		return strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}

// bounded cuts answers that no registry should give.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

func refuseLocal(_, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if ip := addr.Addr().Unmap(); ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast() {
		return fmt.Errorf("the injector may not ask %s, an address of this machine or its link", ip)
	}
	return nil
}
