package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// s3Source is an object, or everything below a prefix that ends with a /, of a store that speaks S3.
type s3Source struct {
	u      *unit
	base   url.URL // of the bucket, ending with a /
	region string
	key    string
	keys   aws.Credentials // zero: public
	now    func() time.Time
}

func newS3Source(u *unit, at *url.URL) (*s3Source, error) {
	s := &s3Source{u: u, key: strings.TrimPrefix(at.Path, "/"), now: time.Now}
	s.region = firstOf(u.model.Region, u.env["AWS_REGION"], u.env["AWS_DEFAULT_REGION"], "us-east-1")
	endpoint := firstOf(u.model.Endpoint, u.env["AWS_ENDPOINT_URL_S3"], u.env["AWS_ENDPOINT_URL"], u.env["S3_ENDPOINT_URL"])
	switch {
	case endpoint != "":
		base, err := url.Parse(strings.TrimRight(endpoint, "/"))
		if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
			return nil, fmt.Errorf("the endpoint of s3 is no URL such as https://minio.example.com:9000")
		}
		s.base = url.URL{Scheme: base.Scheme, Host: base.Host, Path: base.Path + "/" + at.Host + "/"}
	case strings.Contains(at.Host, "."): // the certificate of AWS is for one label alone
		s.base = url.URL{Scheme: "https", Host: "s3." + s.region + ".amazonaws.com", Path: "/" + at.Host + "/"}
	default:
		s.base = url.URL{Scheme: "https", Host: at.Host + ".s3." + s.region + ".amazonaws.com", Path: "/"}
	}
	var err error
	if s.keys, err = awsCredentials(u.env); err != nil {
		return nil, err
	}
	return s, nil
}

func firstOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

// list asks for the objects of a prefix, or for the one object that the URL names.
func (s *s3Source) list(ctx context.Context, had *stamp) (*listing, error) {
	if !strings.HasSuffix(s.key, "/") && s.key != "" {
		return s.single(ctx, had)
	}
	if s.u.sha256 != "" {
		return nil, finalf("sha256 is given, but %s names all objects below it", s.u.url)
	}
	l, sum := &listing{}, sha256.New()
	for token := ""; ; {
		page, err := s.page(ctx, token)
		if err != nil {
			return nil, err
		}
		for _, o := range page.contents {
			name := strings.TrimPrefix(o.key, s.key)
			if name == "" || strings.HasSuffix(name, "/") {
				continue // a directory, as consoles make them
			}
			if !filepath.IsLocal(name) || ends(name) {
				return nil, finalf("the key %q is no path of a file", o.key)
			}
			if len(l.files) == maxEntries {
				return nil, finalf("there are more than %d objects below it", maxEntries)
			}
			l.files = append(l.files, s.object(o.key, name, o.size, unpackNever))
			fmt.Fprintf(sum, "%q %q %d\n", name, o.tag, o.size)
		}
		if token = page.next; token == "" {
			break
		}
	}
	if len(l.files) == 0 {
		return nil, finalf("there is no object below %s", s.u.url)
	}
	l.version = hex.EncodeToString(sum.Sum(nil))
	return l, nil
}

// ends tells whether a name would be that of our own files.
func ends(name string) bool {
	_, err := ours(name)
	return err != nil
}

// single is an object alone, which may be an archive.
func (s *s3Source) single(ctx context.Context, had *stamp) (*listing, error) {
	f := s.object(s.key, lastName(s.key), -1, s.u.rule())
	f.sha256 = s.u.sha256
	l := &listing{files: []file{f}}
	if had == nil || had.Version == "" {
		return l, nil
	}
	req, err := s.request(ctx, s.key, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("If-None-Match", had.Version)
	res, err := do(s.u.client, req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusNotModified:
		l.version = had.Version
	case http.StatusOK:
		l.version = versionOf(res.Header)
	default:
		return nil, answered(res)
	}
	return l, nil
}

func (s *s3Source) object(key, name string, size int64, unpack int) file {
	return file{name: name, size: size, unpack: unpack, open: func(ctx context.Context, from int64, tag string) (*body, error) {
		send := func(req *http.Request) (*http.Response, error) { return do(s.u.client, req) }
		request := func(ctx context.Context) (*http.Request, error) { return s.request(ctx, key, nil) }
		return openRange(ctx, send, request, from, tag)
	}}
}

// page is an answer of ListObjectsV2.
type page struct {
	next     string // token of the page after it; "" where there is none
	contents []object
}

type object struct {
	key, tag string
	size     int64
}

// readPage reads by elements: encoding/xml's way into structs would cost the binary 45 KB.
func readPage(r io.Reader) (*page, error) {
	var p page
	var o object
	var next string
	var more bool
	err := elements(r, func(path, text string) (err error) {
		switch path {
		case "ListBucketResult/IsTruncated":
			more = text == "true"
		case "ListBucketResult/NextContinuationToken":
			next = text
		case "ListBucketResult/Contents/Key":
			o.key = text
		case "ListBucketResult/Contents/ETag":
			o.tag = text
		case "ListBucketResult/Contents/Size":
			o.size, err = strconv.ParseInt(text, 10, 64)
		case "ListBucketResult/Contents":
			p.contents, o = append(p.contents, o), object{}
		}
		return err
	})
	if more {
		p.next = next
	}
	return &p, err
}

// elements calls f at the end of each element, with its path and the text that is in it alone.
func elements(r io.Reader, f func(path, text string) error) error {
	var path []string
	text := ""
	for d := xml.NewDecoder(r); ; {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.StartElement:
			path, text = append(path, t.Name.Local), ""
		case xml.CharData:
			text += string(t)
		case xml.EndElement:
			if err := f(strings.Join(path, "/"), text); err != nil {
				return err
			}
			path, text = path[:len(path)-1], ""
		}
	}
}

func (s *s3Source) page(ctx context.Context, token string) (*page, error) {
	query := url.Values{"list-type": {"2"}, "prefix": {s.key}}
	if token != "" {
		query.Set("continuation-token", token)
	}
	req, err := s.request(ctx, "", query)
	if err != nil {
		return nil, err
	}
	res, err := do(s.u.client, req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, answered(res)
	}
	const most = 16 << 20 // a page has 1000 keys of at most 1 KB
	p, err := readPage(io.LimitReader(res.Body, most))
	if err != nil {
		return nil, fmt.Errorf("cannot read the list of objects: %w", err)
	}
	return p, nil
}

// noBody stands for the checksum of the request's body, which there is none of, over a connection that TLS protects or not.
const noBody = "UNSIGNED-PAYLOAD"

// request makes a GET and signs it. Range and the conditions are added later and are not signed, which S3 does not ask for.
func (s *s3Source) request(ctx context.Context, key string, query url.Values) (*http.Request, error) {
	at := s.base
	at.Path += key
	at.RawPath = escapeKey(at.Path)
	at.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, final(plainly(err))
	}
	if !s.keys.HasKeys() {
		return req, nil
	}
	return req, s.sign(ctx, req, noBody)
}

// sign is Signature Version 4 (docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html).
func (s *s3Source) sign(ctx context.Context, req *http.Request, body string) error {
	req.Header.Set("X-Amz-Content-Sha256", body)
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	return final(signer.SignHTTP(ctx, s.keys, req, body, "s3", s.region, s.now()))
}

// escapeKey encodes a path as S3 signs it: every byte but the unreserved ones and the /.
func escapeKey(path string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	return b.String()
}
