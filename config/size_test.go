package config

import "testing"

func TestSizes(t *testing.T) {
	for _, tt := range []struct {
		text    string
		want    Size
		printed string
	}{
		{"0", 0, "0"},
		{"1", 1, "1"},
		{"1000", 1000, "1KB"},
		{"1024", 1024, "1Ki"},
		{"1025", 1025, "1025"},
		{"64Ki", 64 << 10, "64Ki"},
		{"64KiB", 64 << 10, "64Ki"},
		{"64 Ki", 64 << 10, "64Ki"},
		{"10B", 10, "10"},
		{"1Mi", 1 << 20, "1Mi"},
		{"2048Ki", 2 << 20, "2Mi"},
		{"100Gi", 100 << 30, "100Gi"},
		{"1GB", 1e9, "1GB"},
		{"3TB", 3e12, "3TB"},
		{"1Ti", 1 << 40, "1Ti"},
		{"-1Ki", -1 << 10, "-1Ki"},
		{"9223372036854775807", 1<<63 - 1, "9223372036854775807"},
	} {
		got, msg := parseSize(tt.text)
		if got != tt.want || msg != "" {
			t.Errorf("parseSize(%q) = %d, %q, want %d", tt.text, got, msg, tt.want)
		}
		if got.String() != tt.printed {
			t.Errorf("%q is printed as %s, want %s", tt.text, got, tt.printed)
		}
	}
	const other = " is not a size; want bytes or one such as 64Ki, 1Mi, 100Gi or 1GB"
	for text, want := range map[string]string{
		"":                     `""` + other,
		"Ki":                   `"Ki"` + other,
		"1.5Gi":                `"1.5Gi"` + other,
		"1-2":                  `"1-2"` + other,
		"64kib":                `"64kib"` + other,
		"1GBB":                 `"1GBB"` + other,
		"lots":                 `"lots"` + other,
		"64K":                  `"64K" may mean two sizes; write 64Ki or 64KB`,
		"1g":                   `"1g" may mean two sizes; write 1Gi or 1GB`,
		"9223372036854775808":  `"9223372036854775808" is too large`,
		"8388608Ti":            `"8388608Ti" is too large`,
		"99999999999999999999": `"99999999999999999999" is too large`,
	} {
		if got, msg := parseSize(text); msg != want {
			t.Errorf("parseSize(%q):\n got %d, %s\nwant %s", text, got, msg, want)
		}
	}
}
