package main

import (
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

// good is a Dockerfile without a fault; the cases change one thing in it.
const good = `# An image
ARG BASE_IMAGE=debian:12-slim
ARG INPOD_IMAGE=inpod/base
FROM ${INPOD_IMAGE} AS inpod
FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="a tool" org.opencontainers.image.description="does things" \
      org.opencontainers.image.source="https://example.org/tool" org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="tool1.2-python3.11-debian12" \
      inpod.dev/max-size="400MB"
RUN apt-get update \
 # a comment in between
 && apt-get install -y --no-install-recommends tool \
 && rm -rf /var/lib/apt/lists/*
COPY --from=inpod /inpod /usr/local/bin/inpod
COPY images/tool/root/ /
USER 1000:1000
EXPOSE 2222 8080 9880
ENTRYPOINT ["inpod", "run"]
`

func tree(dockerfile string) fstest.MapFS {
	return fstest.MapFS{
		"images/tool/Dockerfile":                     {Data: []byte(dockerfile)},
		"images/tool/README.md":                      {Data: []byte("SSH on 2222")},
		"images/tool/test":                           {Data: []byte("#!/bin/sh\n"), Mode: 0o755},
		"images/tool/root/etc/supervisord/tool.ini":  {Data: []byte("[program:tool]\ncommand=tool\n")},
		"images/tool/root/etc/inpod/inpod.yaml":      {Data: []byte("proxy:\n  routes:\n  - {listen: \":8080\", upstream: \"127.0.0.1:80\"}\n")},
		"images/tool/root/usr/share/tool/ca.crt":     {Data: []byte("-----BEGIN CERTIFICATE-----\nMIIB\n")},
		"images/tool/root/usr/share/tool/README.txt": {Data: []byte("-----BEGIN PRIVATE KEY----- is how one begins")},
	}
}

func TestDockerfiles(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		old, new string // replaced in good
		want     string // the only fault, after "images/tool/Dockerfile:"; "" = none
	}{
		{"good", "", "", ""},
		{"a typing error", "USER", "USR", `16: there is no instruction "USR"`},
		{"lower case", "USER", "user", ""},
		{"a syntax line", "# An image", "# syntax=docker/dockerfile:1", "1: # syntax= is read by BuildKit only"},
		{"a fixed base", "FROM ${BASE_IMAGE}", "FROM debian:12-slim", "5: FROM debian:12-slim cannot be replaced: ARG BASE_IMAGE=debian:12-slim before the first FROM, and FROM ${BASE_IMAGE}"},
		{"no such argument", "FROM ${BASE_IMAGE}", "FROM $BASE", "5: $BASE has no ARG before the first FROM"},
		{"an argument without default", "ARG BASE_IMAGE=debian:12-slim", "ARG BASE_IMAGE=debian:12-slim\nARG OTHER", "3: ARG OTHER needs a default, so that docker build works without arguments"},
		{"copied from an image", "--from=inpod", "--from=inpod/base", "14: --from=inpod/base is no stage of this file; the old builder takes no other image or argument there"},
		{"copied from an argument", "--from=inpod", "--from=${INPOD_IMAGE}", "14: --from=${INPOD_IMAGE} is no stage of this file; the old builder takes no other image or argument there"},
		{"chmod", "COPY images", "COPY --chmod=755 images", "15: COPY --chmod=755 is not known to every builder (legacy docker, BuildKit, buildah, Kaniko)"},
		{"link", "COPY images", "COPY --link images", "15: COPY --link is not known to every builder (legacy docker, BuildKit, buildah, Kaniko)"},
		{"mount", "RUN apt-get update", "RUN --mount=type=cache,target=/x apt-get update", "10: RUN --mount=type=cache,target=/x is not known to every builder (legacy docker, BuildKit, buildah, Kaniko)"},
		{"a here-document", "USER", "RUN cat <<EOF >/x\nUSER", "16: a here-document is not known to every builder; COPY a file"},
		{"ADD of a URL", "USER", "ADD https://example.org/x /x\nUSER", `16: ADD fetches a URL without a checksum; RUN curl -fsSLO … && echo "SUM  FILE" | sha256sum -c`},
		{"no entrypoint", `ENTRYPOINT ["inpod", "run"]`, "", `: there is no ENTRYPOINT ["inpod", "run"] in the last stage`},
		{"a shell before it", `["inpod", "run"]`, "inpod run", `18: ENTRYPOINT inpod run: want ["inpod", "run"], so that inpod is PID 1`},
		{"another init", `["inpod", "run"]`, `["tini", "--", "inpod", "run"]`, `18: ENTRYPOINT ["tini", "--", "inpod", "run"]: want ["inpod", "run"], so that inpod is PID 1`},
		{"more arguments", `["inpod", "run"]`, `["inpod", "run", "-c", "/etc/x.ini"]`, ""},
		{"a main program", "ENTRYPOINT", "CMD [\"--\", \"tool\"]\nENTRYPOINT", ""},
		{"a command that is none", "ENTRYPOINT", "CMD [\"tool\"]\nENTRYPOINT", `18: CMD ["tool"] comes after inpod run: write ["--", "command", …] for a main program`},
		{"no user", "USER 1000:1000\n", "", `: no USER: want a number such as USER 1000:1000, or the label inpod.dev/root="why"`},
		{"root", "USER 1000:1000", "USER root", "16: USER root is root: say why in the label inpod.dev/root"},
		{"a name", "USER 1000:1000", "USER tool", "16: USER tool: Kubernetes' runAsNonRoot wants a number"},
		{"root with a reason", "USER 1000:1000", "LABEL inpod.dev/root=\"people install packages in it\"", ""},
		{"root without a reason", "USER 1000:1000", "LABEL inpod.dev/root=yes", "16: the label inpod.dev/root says why in a few words"},
		{"a reason and a user", "USER 1000:1000", "USER 1000\nLABEL inpod.dev/root=\"people install packages\"", "17: the label inpod.dev/root, but the user is 1000"},
		{"no licence", `org.opencontainers.image.licenses="Apache-2.0"`, "", ": the label org.opencontainers.image.licenses is missing"},
		{"no size", `inpod.dev/max-size="400MB"`, "a=b", ": the label inpod.dev/max-size is missing"},
		{"a size that is none", "400MB", "400 megabytes", `6: the label inpod.dev/max-size: "400 megabytes" is no size such as 400MB or 2.5GB`},
		{"too large for platforms", "400MB", "60GB", "6: 60GB is more than platforms take (50 GB)"},
		{"of another tool", "tool1.2", "other1.2", `6: the version "other1.2-python3.11-debian12" is of "other", the image is tool`},
		{"no system", "-debian12", "", `6: the version "tool1.2-python3.11" says nothing of the system; its form is ` + formOfTag},
		{"a port that is not exposed", "2222 8080 9880", "2222 9880", "17: the port 8080 of a route is not in EXPOSE"},
		{"health is not exposed", "2222 8080 9880", "2222 8080", "17: the port 9880 of health and metrics is not in EXPOSE"},
		{"a port of nothing", "2222 8080", "2222 8080 7777", "17: EXPOSE 7777: the README does not say what that port is"},
		{"a range", "2222 8080", "2222 6000-6010 8080", "17: EXPOSE 6000-6010: want TCP ports, one by one"},
		{"recommended packages", "--no-install-recommends ", "", "10: apt-get install without --no-install-recommends"},
		{"a question", "install -y", "install", "10: apt-get install without -y waits for an answer"},
		{"lists stay", " \\\n && rm -rf /var/lib/apt/lists/*", "", "10: leaves apt's lists in the layer: && rm -rf /var/lib/apt/lists/*"},
		{"old lists", "RUN apt-get update \\\n # a comment in between\n &&", "RUN", "10: apt-get install without apt-get update in the same RUN works only as long as the cache does"},
		{"pip's cache", "USER", "RUN pip install tool==1.2\nUSER", "16: pip install without --no-cache-dir leaves its cache in the layer"},
		{"for everybody", "USER", "RUN chmod -R 777 /opt\nUSER", "16: makes files that everybody can write"},
		{"curl | sh", "USER", "RUN curl -fsSL https://example.org/install | sh\nUSER", "16: fetches and runs something that nobody has seen; download a version, check its sum, then run it"},
		{"curl | sudo bash", "USER", "RUN wget -qO- https://example.org/x | sudo -E bash -\nUSER", "16: fetches and runs something that nobody has seen; download a version, check its sum, then run it"},
		{"sh -c curl", "USER", "RUN sh -c \"$(curl -fsSL https://example.org/x)\"\nUSER", "16: fetches and runs something that nobody has seen; download a version, check its sum, then run it"},
		{"bash <(curl", "USER", "RUN bash <(curl -s https://example.org/x)\nUSER", "16: fetches and runs something that nobody has seen; download a version, check its sum, then run it"},
		{"curl to tar", "USER", "RUN curl -fsSL https://example.org/x.tgz | tar xz\nUSER", `16: a download without a checksum: echo "SUM  FILE" | sha256sum -c`},
		{"curl with a sum", "USER", "RUN curl -fsSLo x https://example.org/x && echo \"00  x\" | sha256sum -c\nUSER", ""},
		{"a password", "USER", "RUN echo root:123456 | chpasswd\nUSER", "16: sets a password that is the same in every container"},
		{"a password for a new user", "USER", "RUN useradd -m -p xyz tool\nUSER", "16: sets a password that is the same in every container"},
		{"a secret in the environment", "USER", "ENV JUPYTER_TOKEN=abc\nUSER", "16: ENV JUPYTER_TOKEN=… is the same in every container, and everybody who has the image can read it"},
		{"the old form", "USER", "ENV DB_PASSWORD abc\nUSER", "16: ENV DB_PASSWORD=… is the same in every container, and everybody who has the image can read it"},
		{"an empty one", "USER", "ENV JUPYTER_TOKEN=\"\" TOKEN_FILE=/x TOKENIZERS_PARALLELISM=8\nUSER", ""},
		{"a secret argument", "USER", "ARG API_KEY\nUSER", "16: ARG API_KEY ends up in the history of the image"},
		{"a token in a command", "USER", "RUN git clone https://me:ghx@example.org/x\nUSER", "16: holds a password in a URL"},
		{"too many layers", "USER", strings.Repeat("RUN true\n", 10) + "USER", "25: 13 layers, at most 12: join RUN with &&, and COPY one tree"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(good, test.old, test.new, 1)
			if test.old != "" && text == good {
				t.Fatalf("%q is not in the good one", test.old)
			}
			_, faults, err := static(tree(text), "tool")
			if err != nil {
				t.Fatal(err)
			}
			got := make([]string, 0, 1)
			for _, f := range faults {
				got = append(got, strings.TrimPrefix(f.String(), "images/tool/Dockerfile:"))
			}
			want := []string{test.want}
			if test.want == "" {
				want = nil
			}
			// A fault of the file as a whole begins with a blank then.
			if strings.Join(got, "\n") != strings.TrimPrefix(strings.Join(want, "\n"), ":") {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

func TestFolders(t *testing.T) {
	t.Parallel()
	key := "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtz\n"
	tests := []struct {
		name, file, text string // text "-": the file is not there
		want             string
	}{
		{"no README", "README.md", "-", "images/tool/README.md: is missing: what the image serves, and on which port\n" + "images/tool/Dockerfile:17: EXPOSE 2222: the README does not say what that port is"},
		{"no test", "test", "-", "images/tool/test: there is no such executable, which would show that the image does what its README says"},
		{"no programs", "root/etc/supervisord/tool.ini", "-", ""},
		{"a key", "root/etc/tool.conf", key, "images/tool/root/etc/tool.conf: holds a private key"},
		{"keys that log in", "root/root/.ssh/authorized_keys", "ssh-ed25519 AAAA", "images/tool/root/root/.ssh/authorized_keys: says who may log in; mount it, or set INPOD_AUTHORIZED_KEYS"},
		{"a host key", "root/etc/ssh/ssh_host_rsa_key", "x", "images/tool/root/etc/ssh/ssh_host_rsa_key: is a host key, the same in every container; inpod makes them"},
		{"a hash", "root/etc/x", "root:$6$saltsalt$0123456789abcdefghij:1", "images/tool/root/etc/x: holds a password's hash"},
		{"a boot script from the net", "root/start.sh", "#!/bin/sh\ncurl -s http://example.org/start.sh | bash\n", "images/tool/root/start.sh:2: fetches and runs something that nobody has seen"},
		{"a password in a script", "root/start.sh", "echo root:123456 | chpasswd\n", "images/tool/root/start.sh:1: sets a password that is the same in every container"},
		{"a password from outside", "root/start.sh", "echo \"root:$PASSWORD\" | chpasswd\n", ""},
		{"no address", "root/etc/inpod/inpod.yaml", "proxy: {routes: [{listen: \"here\"}]}", `images/tool/root/etc/inpod/inpod.yaml: listen: "here" is no address with a port` + "\nimages/tool/Dockerfile:17: EXPOSE 8080: the README does not say what that port is"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			files := tree(good)
			files["images/tool/"+test.file] = &fstest.MapFile{Data: []byte(test.text), Mode: 0o755}
			if test.text == "-" {
				delete(files, "images/tool/"+test.file)
			}
			_, faults, err := static(files, "tool")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range faults {
				got = append(got, f.String())
			}
			for _, want := range strings.Split(test.want, "\n") {
				if want != "" && !strings.Contains(strings.Join(got, "\n")+"\n", want+"\n") {
					t.Errorf("got %q, want %q", got, want)
				}
			}
			if n := len(strings.Split(test.want, "\n")); len(got) != n && test.want != "" || test.want == "" && len(got) > 0 {
				t.Errorf("got %q, want %d", got, n)
			}
		})
	}
}

func TestTags(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]tag{
		"ollama0.3.11-python3.11-cuda12.1.0-runtime-ubuntu22.04": {service: "ollama", version: "0.3.11", python: "3.11", cuda: "12.1.0", flavour: "runtime", os: "ubuntu", release: "22.04"},
		"jupyter4.2.5-python3.10-debian12":                       {service: "jupyter", version: "4.2.5", python: "3.10", os: "debian", release: "12"},
		"pytorch2.4-python3.11-cpu-debian12":                     {service: "pytorch", version: "2.4", python: "3.11", cpu: true, os: "debian", release: "12"},
		"airlock1.0-debian12":                                    {service: "airlock", version: "1.0", os: "debian", release: "12"},
		"pytorch2.4-cuda12.4-devel-ubuntu22.04":                  {service: "pytorch", version: "2.4", cuda: "12.4", flavour: "devel", os: "ubuntu", release: "22.04"},
	} {
		if got, err := parseTag(text, false); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"latest":                        "does not begin with a service and its version",
		"":                              "does not begin with a service and its version",
		"1.0-debian12":                  "does not begin with a service and its version",
		"jupyter4":                      "says nothing of the system",
		"jupyter4-":                     "says nothing of the system",
		"jupyter4-debian12-python3.11":  `goes on after the system: "python3.11"`,
		"jupyter4-py311-debian12":       `has "py311" where it is not known, or not in its place`,
		"x1-cuda12.1-python3.11-rocky9": `has "python3.11" where it is not known, or not in its place`,
		"x1-runtime-debian12":           `has "runtime" where it is not known, or not in its place`,
		"x1-cuda12.1-cpu-debian12":      `has "cpu" where it is not known, or not in its place`,
		"x1-cpu-cuda12.1-debian12":      `has "cuda12.1" where it is not known, or not in its place`,
		"x1-debian":                     `has "debian" where it is not known, or not in its place`,
	} {
		if _, err := parseTag(text, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// The repository's own images hold; what is built is looked at by e2e/images.
func TestOurs(t *testing.T) {
	t.Parallel()
	root := os.DirFS("../..")
	files, err := fs.Glob(root, "images/*/Dockerfile")
	if err != nil || len(files) == 0 {
		t.Fatalf("found no images: %v", err)
	}
	for _, f := range files {
		_, faults, err := static(root, strings.Split(f, "/")[1])
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range faults {
			t.Error(f)
		}
	}
}
