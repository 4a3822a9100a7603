package xmlrpc

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strings"
)

// basicAuth lets through who knows the password, plain or "{SHA}" and the hex SHA-1 as in Supervisor's manual. The comparison
// takes the same time whatever is wrong.
func basicAuth(username, password string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, given, ok := r.BasicAuth()
		want := password
		if hash, hashed := strings.CutPrefix(password, "{SHA}"); hashed {
			sum := sha1.Sum([]byte(given))
			given, want = hex.EncodeToString(sum[:]), hash
		}
		good := same(user, username) & same(given, want)
		if !ok || username == "" || good != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="default"`)
			w.Header().Set("Connection", "close")
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// same compares without telling the length either.
func same(a, b string) int {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:])
}
