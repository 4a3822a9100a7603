package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"

	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// registrySource is an artifact, or an image, of a registry (OCI distribution-spec): each of its layers is a file. Which
// credentials are sent where is oras-go's work, as is asking for tokens.
type registrySource struct {
	u    *unit
	ref  registry.Reference
	base string // URL of the repository, ending with a /
	auth *auth.Client
}

func newRegistrySource(u *unit, at *url.URL) (*registrySource, error) {
	ref, err := registry.ParseReference(strings.TrimPrefix(at.String(), "oci://"))
	if err != nil {
		return nil, err
	}
	if ref.Reference == "" {
		ref.Reference = "latest"
	}
	var cred auth.Credential
	if path := u.model.TokenFile; path != "" {
		cred.AccessToken, err = secret(path)
		if err != nil {
			return nil, fmt.Errorf("cannot read models[].token_file: %w", err)
		}
	} else if cred, err = registryCredentials(u.env, ref.Registry); err != nil {
		return nil, err
	}
	s := &registrySource{u: u, ref: ref}
	s.auth = &auth.Client{Client: u.client, Cache: auth.NewCache(), ClientID: "inpod", Credential: auth.StaticCredential(ref.Host(), cred)}
	scheme, near := "https", loopback(ref.Registry)
	if u.model.PlainHTTP || near {
		scheme = "http"
	}
	if near { // its token server may be as near
		s.auth.BlockedRealmPrefixes = []netip.Prefix{}
	}
	s.base = scheme + "://" + ref.Host() + "/v2/" + ref.Repository + "/"
	return s, nil
}

func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// descriptor and manifest are what of the OCI image-spec is read; Docker's of the same shape, too.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
	Platform    *struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
	} `json:"platform"`
}

type manifest struct {
	MediaType string       `json:"mediaType"`
	Layers    []descriptor `json:"layers"`
	Manifests []descriptor `json:"manifests"` // of an index
}

const (
	acceptManifests = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, " +
		"application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"
	// titleKey names the file that a layer is (image-spec, annotations.md), unpackKey is ORAS's for a packed directory.
	titleKey  = "org.opencontainers.image.title"
	unpackKey = "io.deis.oras.content.unpack"
	emptyType = "application/vnd.oci.empty.v1+json"

	maxManifest = 4 << 20 // as the distribution-spec has it
)

func (s *registrySource) list(ctx context.Context, _ *stamp) (*listing, error) {
	m, digest, err := s.manifest(ctx, s.ref.Reference)
	if err != nil {
		return nil, err
	}
	if s.u.sha256 != "" && digest != "sha256:"+s.u.sha256 {
		return nil, finalf("the manifest of %s is %s, want sha256:%s", s.ref, digest, s.u.sha256)
	}
	l := &listing{version: digest, sha256: strings.TrimPrefix(digest, "sha256:")}
	if len(m.Manifests) > 0 {
		d, err := ofPlatform(m.Manifests)
		if err != nil {
			return nil, final(err)
		}
		if m, _, err = s.manifest(ctx, d.Digest); err != nil {
			return nil, err
		}
	}
	seen := map[string]bool{}
	for i := range m.Layers {
		f, err := s.layer(&m.Layers[i])
		if err != nil {
			return nil, final(err)
		}
		if f == nil {
			continue
		}
		if seen[f.name] && !f.layer {
			return nil, finalf("%s has two files %q", s.ref, f.name)
		}
		seen[f.name] = true
		l.files = append(l.files, *f)
	}
	if len(l.files) == 0 {
		return nil, finalf("%s holds no file", s.ref)
	}
	return l, nil
}

// layer is the file that a layer is; nil for one that holds nothing.
func (s *registrySource) layer(d *descriptor) (*file, error) {
	sum, ok := strings.CutPrefix(d.Digest, "sha256:")
	if !ok || len(sum) != 64 || d.Size < 0 {
		return nil, fmt.Errorf("the layer %q has no SHA-256", clip(d.Digest))
	}
	if d.MediaType == emptyType {
		return nil, nil
	}
	f := &file{name: d.Annotations[titleKey], size: d.Size, sha256: sum, unpack: s.u.rule()}
	switch packed := strings.Contains(d.MediaType, "tar"); {
	case f.name == "" && packed:
		f.name, f.layer = "layer "+sum[:12], true
		if f.unpack == unpackAuto {
			f.unpack = unpackAlways
		}
	case f.name == "":
		f.name = sum
		f.unpack = unpackNever
	case d.Annotations[unpackKey] == "true" && f.unpack == unpackAuto:
		f.unpack = unpackAlways // what is in it begins with the directory's name
	}
	if !filepath.IsLocal(f.name) || ends(f.name) || strings.ContainsAny(f.name, "\x00\\") {
		return nil, fmt.Errorf("the name %q of a layer is no path of a file", clip(f.name))
	}
	f.open = func(ctx context.Context, from int64, tag string) (*body, error) {
		request := func(ctx context.Context) (*http.Request, error) { return s.request(ctx, "blobs/"+d.Digest) }
		// A blob never changes, so there is no condition; not every store behind a registry would know its own tag again.
		b, err := openRange(ctx, s.send, request, from, "")
		if b != nil {
			b.tag = d.Digest
			if b.total < 0 {
				b.total = d.Size
			}
		}
		return b, err
	}
	return f, nil
}

// ofPlatform chooses from an index: what is for this machine, or the only one there is.
func ofPlatform(list []descriptor) (*descriptor, error) {
	var any *descriptor
	images := 0
	for i := range list {
		p := list[i].Platform
		if p != nil && p.OS == "linux" && p.Architecture == runtime.GOARCH {
			return &list[i], nil
		}
		if p == nil || p.OS != "unknown" { // attestations are of an unknown one
			any = &list[i]
			images++
		}
	}
	if images != 1 {
		return nil, fmt.Errorf("the index has %d images, none of them for linux/%s", images, runtime.GOARCH)
	}
	return any, nil
}

// manifest fetches one, and checks it where its digest is known.
func (s *registrySource) manifest(ctx context.Context, reference string) (*manifest, string, error) {
	req, err := s.request(ctx, "manifests/"+reference)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Accept", acceptManifests)
	res, err := s.send(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, "", answered(res)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxManifest+1))
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(text)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	if strings.HasPrefix(reference, "sha256:") && digest != reference {
		return nil, "", finalf("the manifest of %s is %s, want %s", s.ref, digest, reference)
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil || len(text) > maxManifest {
		return nil, "", finalf("the manifest of %s is none: %w", s.ref, errors.Join(err))
	}
	return &m, digest, nil
}

func (s *registrySource) request(ctx context.Context, path string) (*http.Request, error) {
	ctx = auth.AppendRepositoryScope(ctx, s.ref, auth.ActionPull)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+path, nil)
	if err != nil {
		return nil, final(plainly(err))
	}
	return req, nil
}

// send signs in where it must. What that fails with has types of its own.
func (s *registrySource) send(req *http.Request) (*http.Response, error) {
	res, err := do(s.auth, req)
	var refused *errcode.ErrorResponse
	switch {
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return nil, finalf("%s wants a name and a password, and config.json (of DOCKER_CONFIG or ~/.docker) has none for it", s.ref.Registry)
	case errors.As(err, &refused) && refused.StatusCode/100 == 4 && refused.StatusCode != http.StatusTooManyRequests:
		return nil, finalf("cannot sign in: %s answered %d %s", refused.URL.Host, refused.StatusCode, http.StatusText(refused.StatusCode))
	}
	return res, err
}
