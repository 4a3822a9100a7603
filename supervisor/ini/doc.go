// Package ini reads supervisord.conf files in Supervisor 4's dialect, with the keys that
// ochinchina/supervisord and inpod add. Enter at Load. It starts nothing and changes nothing.
package ini
