package ini

import (
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkLoad reads a thousand programs, and one program of ten thousand processes.
func BenchmarkLoad(b *testing.B) {
	for name, text := range map[string]string{
		"1000 programs":  numbered("[program:p%d]\ncommand=/bin/sleep 1000\nenvironment=A=\"1\"\nstdout_logfile=/dev/null\n", 1000),
		"3 programs":     numbered("[program:p%d]\ncommand=/bin/sleep 1000\n", 3),
		"numprocs=10000": "[program:p]\ncommand=/bin/sleep 1000\nnumprocs=10000\nprocess_name=p%(process_num)d\n",
		"10000 unknown":  "[program:p]\ncommand=/bin/cat\n" + numbered("k%d=1\n", 10000),
	} {
		b.Run(name, func(b *testing.B) {
			main := filepath.Join(b.TempDir(), "main.ini")
			if err := os.WriteFile(main, []byte(text), 0o600); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Load(Options{Main: main}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
