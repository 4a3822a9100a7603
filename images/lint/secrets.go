package main

import (
	"path"
	"regexp"
	"strings"
)

// The names of settings that hold secrets. A file's name or a length (…_FILE, …_PATH, …_LEN) is none.
var (
	secretName   = regexp.MustCompile(`(?i)(passw(or)?d|passphrase|secret|token|api_?key|access_?key|private_?key|credential)`)
	harmlessName = regexp.MustCompile(`(?i)(_file|_path|_dir|_url|_length|_expiry|_ttl|_parallelism)$|^tokenizers`)
	reference    = regexp.MustCompile(`^\$\{?[A-Za-z_][A-Za-z0-9_]*(:-)?\}?$`) // taken from somewhere else
)

// secretSetting tells whether a setting has a secret as its value.
func secretSetting(name, value string) bool {
	switch strings.ToLower(value) {
	case "", "true", "false", "0", "1", "no", "yes", "none", "off":
		return false
	}
	return secretName.MatchString(name) && !harmlessName.MatchString(name) && !reference.MatchString(value)
}

// shapes are texts that are secrets wherever they stand. Every match holds hint: most texts need no more than that.
var shapes = []struct {
	what, hint string
	re         *regexp.Regexp
}{
	{"a private key", "PRIVATE KEY", regexp.MustCompile(`-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY( BLOCK)?-----\s*\n?\s*(Proc-Type|[A-Za-z0-9+/=\r\n]{60})`)},
	{"a key of PuTTY", "PuTTY-User-Key", regexp.MustCompile(`PuTTY-User-Key-File-[23]:`)},
	{"an access key of AWS", "IA", regexp.MustCompile(`(AKIA|ASIA)[0-9A-Z]{16}\b`)},
	{"a token of GitHub", "_", regexp.MustCompile(`(gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})\b`)},
	{"a token of Hugging Face", "hf_", regexp.MustCompile(`hf_[A-Za-z0-9]{30,}\b`)},
	{"a token of Slack", "xox", regexp.MustCompile(`xox[abprs]-[A-Za-z0-9-]{20,}\b`)},
	{"a key of OpenAI", "sk-", regexp.MustCompile(`sk-(proj-)?[A-Za-z0-9_-]{40,}\b`)},
	{"a password's hash", "$", regexp.MustCompile(`\$(1|2[aby]|5|6|y|argon2id?)\$[./A-Za-z0-9$,=]{20,}`)},
	{"a password in a URL", "://", regexp.MustCompile(`://[^/\s:@$"'{}<>]+:[^/\s:@$"'{}<>]+@[A-Za-z0-9]`)},
}

// secretText says which secret stands in a text, or "".
func secretText(text string) string {
	for _, s := range shapes {
		if strings.Contains(text, s.hint) && s.re.MatchString(text) {
			return s.what
		}
	}
	return ""
}

// secretFile says why a file must not be in an image by its name alone, or "".
func secretFile(name string) string {
	base := path.Base(name)
	switch {
	case base == "authorized_keys" || base == "authorized_keys2":
		return "says who may log in; mount it, or set INPOD_AUTHORIZED_KEYS"
	case strings.HasPrefix(base, "ssh_host_") && !strings.HasSuffix(base, ".pub"):
		return "is a host key, the same in every container; inpod makes them"
	case base == "id_rsa" || base == "id_dsa" || base == "id_ecdsa" || base == "id_ed25519":
		return "is a private key"
	case base == ".netrc" || base == ".pgpass" || base == ".git-credentials" || base == ".htpasswd":
		return "holds passwords"
	case strings.HasSuffix(name, ".docker/config.json"), strings.HasSuffix(name, ".aws/credentials"), strings.HasSuffix(name, ".kube/config"):
		return "holds credentials"
	case strings.HasSuffix(name, "sync/root-passwd"), base == "admin-token":
		return "is a password that is the same in every container"
	}
	return ""
}

// Commands that bake a password in.
var setsPassword = regexp.MustCompile(`\bchpasswd\b|\bpasswd\s+(--stdin|-d\b)|\b(useradd|usermod|adduser)\b[^;&|]*\s(-p|--password)[\s=]`)

// pipedToShell finds what is fetched and run unseen.
var pipedToShell = []*regexp.Regexp{
	regexp.MustCompile(`\b(curl|wget)\b[^;&]*\|\s*(sudo\s+(-\S+\s+)*)?(env\s+)?(/\S*/)?(ba|da|z|k)?sh\b`),
	regexp.MustCompile(`\b(curl|wget)\b[^;&]*\|\s*(sudo\s+)?(/\S*/)?(python[0-9.]*|perl|node|ruby)\b`),
	regexp.MustCompile(`\b(ba|da|z)?sh\s+(-\S+\s+)*["']?(<\(|\$\(|` + "`" + `)\s*(curl|wget)\b`),
	regexp.MustCompile(`\b(source|eval|\.)\s+["']?(<\(|\$\(|` + "`" + `)\s*(curl|wget)\b`),
}

func fetchedAndRun(text string) bool {
	for _, re := range pipedToShell {
		if re.MatchString(text) {
			return true
		}
	}
	return false
}
