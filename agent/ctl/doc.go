// Package ctl is the control client: every action of supervisorctl 4.2, with its words and its exit
// codes, and the actions that only inpod has.
//
// Enter at New, then Do for one action or Shell for a session. A Controller speaks to the server
// through the Server interface alone, so that it drives inpod and Python's supervisord alike. It
// never signals or starts a process itself.
//
// What it prints is an interface that scripts parse. The model is supervisorctl.py of Supervisor
// 4.2.5, and a test runs both side by side against real supervisord processes.
package ctl
