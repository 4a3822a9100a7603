package sshd

import (
	"strings"
	"testing"
)

// The hashes are those that crypt(3) of Debian 12 and mkpasswd make, and test vectors of the SHA-crypt specification.
func TestVerify(t *testing.T) {
	for _, tt := range []struct{ password, hash string }{
		{"Hello world!", "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"},
		{"Hello world!", "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v."},
		{"This is just a test", "$6$rounds=5000$toolongsaltstrin$lQ8jolhgVRVhY4b5pZKaysCLi0QBxGoNeKQzQ3glMhwllF7oGDZxUhx1yxdYcz/e1JSbq3y6JMxxl8audkUEm0"},
		{"Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"},
		{"Hello world!", "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"},
		{"we have a short salt string but not a short password", "$5$rounds=77777$short$JiO1O3ZpDAxGJeaDIuqCoEFysAe1mZNJRs3pw0KQRd/"},
		{"geheim: ü", "$6$pXEgM/TVf7LyLspQ$T2nyPF.A38wMTJFuc2j5VJL/YUKobXjlJ/zU9x2/SCifYe6Qw0iuaqsAAVpd0vGzZgLZIzgm3n6F6kBzI0X0K/"},
		{"geheim: ü", "$5$7YDHP1ehCathKKSS$H4RdfjwV3X1UVhQsWHiPGUivLZLnIJ4dAW.h7p86d1B"},
		{"geheim: ü", "$2b$12$NAgEy8PZ6XkEQxpxaWTKiOtbAq0wS/hj/kNB1En8yESFkk3j1doWa"},
		{"geheim: ü", "$y$j9T$Mdg143W.8SI./kZHxkBGN0$PfIYT/Ei50Wrm1LJeWz.4yySzxM2S0WPqxCVvSDKvE/"},
	} {
		if ok, err := verify([]byte(tt.password), tt.hash); err != nil || !ok {
			t.Errorf("verify(%q, %q) = %v, %v; want true", tt.password, tt.hash, ok, err)
		}
		if ok, err := verify([]byte(tt.password+"x"), tt.hash); err != nil || ok {
			t.Errorf("verify(%q, %q) = %v, %v; want false", tt.password+"x", tt.hash, ok, err)
		}
	}
}

func TestOwnHash(t *testing.T) {
	for _, password := range []string{"secret", "", strings.Repeat("long", 50), "pass:word ü"} {
		h, err := newHash([]byte(password))
		if err != nil || !strings.HasPrefix(h, "$6$rounds=100000$") {
			t.Fatalf("newHash(%q) = %q, %v", password, h, err)
		}
		if ok, err := verify([]byte(password), h); err != nil || !ok {
			t.Errorf("verify(%q, %q) = %v, %v", password, h, ok, err)
		}
	}
}

func TestWhatIsNoHash(t *testing.T) {
	for _, h := range []string{"", "!", "*", "x", "!!", "!$6$a$b", "$1$salt$hash", "$6$", "$6$rounds=99999999$a$b", "$6$rounds=x$a$b", "secret", "$y$"} {
		if ok, err := verify([]byte("secret"), h); ok || err == nil {
			t.Errorf("verify(%q) = %v, %v; want false and an error", h, ok, err)
		}
	}
}
