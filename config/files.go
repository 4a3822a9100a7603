package config

import "strconv"

// Files is one entry of files.
type Files struct {
	From     string `key:"from" default:"" check:"realpath" expand:"env" doc:"File that holds several: each begins with a line ---NAME. It is watched, and the files are written again when it changes."`
	FromEnv  string `key:"from_env" default:"" check:"variable" doc:"Name of a variable that holds such a text, instead of from."`
	To       string `key:"to" required:"true" check:"realpath" expand:"env" doc:"Directory that gets the files. What else is in it stays."`
	Mode     string `key:"mode" default:"0644" check:"mode" doc:"Mode of the files."`
	Required bool   `key:"required" default:"false" doc:"Files that cannot be written end the agent. When false the start goes on; the log, /readyz?verbose and the metrics say so."`
}

// checkFiles applies the rules that concern several keys.
func (c *Config) checkFiles(report reporter) {
	for i, f := range c.Files {
		if (f.From == "") == (f.FromEnv == "") {
			report("files["+strconv.Itoa(i)+"]", "want from or from_env, and one of them only")
		}
		if f.Mode == "" {
			report("files["+strconv.Itoa(i)+"].mode", "is empty; want a mode such as 0644")
		}
	}
}
